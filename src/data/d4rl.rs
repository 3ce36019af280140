//! Reading D4RL's HDF5 files: the steps of all episodes one after another in flat arrays, which flags cut into episodes.
//!
//! `observations [N, S]`, `actions [N, A]`, `rewards [N]` and `terminals [N]`; where it was recorded, `timeouts [N]` and
//! `next_observations [N, S]`.

use std::ops::Range;
use std::path::Path;

use eva_rl_envs::{ActionSpace, EnvSpec, Phase};
use hdf5_pure::Datatype;

use super::checks::{check_actions, check_finite};
use super::images::Images;
use super::reading::{DatasetError, hdf5_reason};
use super::stored::{self, SUCCESS, Stored};
use super::trajectory::Trajectory;

/// What every file has.
const REQUIRED: [&str; 4] = ["observations", "actions", "rewards", "terminals"];

/// Rows that are read at once, rounded up to whole chunks.
const PIECE: usize = if cfg!(test) { 4 } else { 1 << 14 };

/// Actions that a discrete space may have: `f32` tells their indices apart.
const MAX_ACTIONS: f32 = (1 << 24) as f32;

/// A file whose numbers have all been looked at.
pub struct D4rl {
    observations: Rows,
    next_observations: Option<Rows>,
    actions: Rows,
    rewards: Vec<f32>,
    succeeded: Option<Vec<bool>>,
    /// Episodes of at least one step.
    pub cuts: Vec<Cut>,
    /// What an action is: the environment's, or found in the data.
    pub action: ActionSpace,
    /// Whether the file says where a time limit has cut.
    pub timeouts: bool,
    /// Steps that were left out, because the file has no observation after them.
    pub dropped: usize,
}

/// An episode's place in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// All of its rows.
    rows: Range<usize>,
    /// How many of them are kept, from the first on.
    pub steps: usize,
    /// How it ended.
    pub end: Phase,
}

impl D4rl {
    /// Opens a file, which must agree with `spec` where an environment is named.
    pub fn open(path: &Path, spec: Option<&EnvSpec>) -> Result<Self, DatasetError> {
        Self::read(path, spec).map_err(|reason| DatasetError::D4rl { path: path.to_owned(), reason })
    }

    fn read(path: &Path, spec: Option<&EnvSpec>) -> Result<Self, String> {
        let stored = Stored::open(path).map_err(|reason| format!("cannot be read: {reason}"))?;
        let root = stored.file.root();
        let names = root.datasets().map_err(|error| hdf5_reason(&error))?;
        let has = |name: &str| names.iter().any(|other| other == name);
        if let Some(absent) = REQUIRED.iter().find(|name| !has(name)) {
            return Err(format!(
                "has no `{absent}`, expected `observations`, `actions`, `rewards` and `terminals`"
            ));
        }
        let rewards: Vec<f32> = stored.floats(&root, "rewards")?.into_iter().map(|x| x as f32).collect();
        let steps = rewards.len();
        if steps == 0 {
            return Err("has no steps, expected at least one".to_owned());
        }
        check_finite("rewards", &rewards, 1, 0)?;
        let flags = |name: &str| {
            let flags = stored.flags(&root, name)?;
            same_length(name, flags.len(), steps).map(|()| flags)
        };
        let terminals = flags("terminals")?;
        let timeouts = has("timeouts").then(|| flags("timeouts")).transpose()?;
        let infos = root.group("infos").and_then(|group| group.datasets()).unwrap_or_default();
        let success = SUCCESS.into_iter().find(|name| infos.iter().any(|other| other == name));
        let succeeded = success.map(|name| flags(&format!("infos/{name}"))).transpose()?;

        let mut observations = Rows::open(&stored, "observations", steps)?;
        let mut actions = Rows::open(&stored, "actions", steps)?;
        let mut next_observations =
            has("next_observations").then(|| Rows::open(&stored, "next_observations", steps)).transpose()?;
        if let Some(next) = &next_observations
            && next.width != observations.width
        {
            return Err(format!(
                "has `next_observations` of {} numbers, expected {} as in `observations`",
                next.width, observations.width
            ));
        }
        if let Some(spec) = spec {
            let widths = [
                ("observations", observations.width, spec.observation_width()),
                ("actions", actions.width, spec.action.width()),
            ];
            if let Some((name, found, wanted)) = widths.iter().find(|(_, found, wanted)| found != wanted) {
                return Err(format!("has `{name}` of {found} numbers, expected {wanted} of `{}`", spec.id));
            }
        }
        observations.each_piece(|_, _| Ok(()))?;
        if let Some(next) = &mut next_observations {
            next.each_piece(|_, _| Ok(()))?;
        }
        let action = match spec {
            Some(spec) => spec.action.clone(),
            None => found_actions(&mut actions)?,
        };
        actions.starts = action.starts().to_vec();
        actions.each_piece(|first, rows| check_actions(&action, rows, first))?;

        let limit = spec.map(|spec| spec.max_episode_steps as usize);
        let all = cuts(&terminals, timeouts.as_deref(), limit, next_observations.is_some());
        let cuts: Vec<Cut> = all.into_iter().filter(|cut| cut.steps > 0).collect();
        if cuts.is_empty() {
            return Err("has no step with an observation after it, expected at least one".to_owned());
        }
        let dropped = steps - cuts.iter().map(|cut| cut.steps).sum::<usize>();
        let timeouts = timeouts.is_some();
        Ok(Self {
            observations,
            next_observations,
            actions,
            rewards,
            succeeded,
            cuts,
            action,
            timeouts,
            dropped,
        })
    }

    /// Numbers in an observation.
    pub fn observation_width(&self) -> usize {
        self.observations.width
    }

    /// Mean undiscounted return of an episode.
    pub fn mean_return(&self) -> f64 {
        let kept = |cut: &Cut| cut.rows.start..cut.rows.start + cut.steps;
        let rewards = self.cuts.iter().flat_map(|cut| &self.rewards[kept(cut)]);
        rewards.map(|reward| f64::from(*reward)).sum::<f64>() / self.cuts.len() as f64
    }

    /// Every episode, read as it is asked for.
    pub fn into_episodes(mut self) -> impl Iterator<Item = anyhow::Result<Trajectory>> {
        let cuts = std::mem::take(&mut self.cuts);
        cuts.into_iter().map(move |cut| self.episode(cut).map_err(anyhow::Error::msg))
    }

    fn episode(&mut self, Cut { rows, steps, end }: Cut) -> Result<Trajectory, String> {
        let (width, kept) = (self.observations.width, rows.start..rows.start + steps);
        let mut observations = self.observations.take(rows.clone())?;
        if let Some(next) = &mut self.next_observations {
            observations.extend(next.take(rows.end - 1..rows.end)?);
        } else if steps == rows.len() {
            // Nobody acts on a terminal observation, so that a repeated one stands for it.
            observations.extend_from_within(observations.len() - width..);
        }
        Ok(Trajectory {
            observations: observations.into(),
            images: Images::default(),
            actions: self.actions.take(kept.clone())?.into(),
            rewards: self.rewards[kept.clone()].to_vec(),
            end,
            infos: Vec::new(),
            succeeded: self.succeeded.as_ref().map(|flags| flags[kept].contains(&true)),
        })
    }
}

/// Episodes, some of which may keep no step: where `next_observations` do not say what followed, the last step of an
/// episode that did not terminate has no observation after it.
fn cuts(terminals: &[bool], timeouts: Option<&[bool]>, limit: Option<usize>, next: bool) -> Vec<Cut> {
    let mut cuts = Vec::new();
    let mut start = 0;
    for row in 0..terminals.len() {
        let rows = start..row + 1;
        let timed_out = match (timeouts, limit) {
            (Some(timeouts), _) => timeouts[row],
            (None, Some(limit)) => rows.len() == limit,
            (None, None) => false,
        };
        let end = match terminals[row] {
            true => Phase::Terminated,
            false if timed_out || rows.end == terminals.len() => Phase::Truncated,
            false => continue,
        };
        start = rows.end;
        let known = next || end == Phase::Terminated;
        let steps = if known { rows.len() } else { rows.len() - 1 };
        cuts.push(Cut { rows, steps, end });
    }
    cuts
}

/// The space that actions are of: -1 to 1 where all lie within, else from the least to the greatest of each dimension.
fn found_actions(actions: &mut Rows) -> Result<ActionSpace, String> {
    let width = actions.width;
    let (mut low, mut high) = (vec![f32::INFINITY; width], vec![f32::NEG_INFINITY; width]);
    actions.each_piece(|_, rows| {
        for row in rows.chunks(width) {
            for (dimension, x) in row.iter().enumerate() {
                low[dimension] = low[dimension].min(*x);
                high[dimension] = high[dimension].max(*x);
            }
        }
        Ok(())
    })?;
    if !actions.whole {
        let within = low.iter().all(|x| -1.0 <= *x) && high.iter().all(|x| *x <= 1.0);
        let bounds = if within { (vec![-1.0; width], vec![1.0; width]) } else { (low, high) };
        return Ok(ActionSpace::Box { low: bounds.0, high: bounds.1 });
    }
    match (width, low[0], high[0]) {
        (1, 0.0.., ..MAX_ACTIONS) => Ok(ActionSpace::Discrete { n: high[0] as usize + 1, start: 0 }),
        (1, low, high) => Err(format!(
            "has whole numbers from {low} to {high} in `actions`, expected 0 to {}",
            MAX_ACTIONS - 1.0
        )),
        _ => Err(format!("has `actions` of {width} whole numbers, expected one, or floats")),
    }
}

fn same_length(name: &str, found: usize, steps: usize) -> Result<(), String> {
    if found == steps {
        return Ok(());
    }
    Err(format!("has {found} steps in `{name}`, expected {steps} as in `rewards`"))
}

/// A dataset of rows, of which memory holds a piece.
struct Rows {
    dataset: hdf5_pure::Dataset,
    name: &'static str,
    width: usize,
    count: usize,
    /// Whether they are integers.
    whole: bool,
    /// What the environment calls the first action of each dimension, where actions are discrete.
    starts: Vec<i64>,
    /// Rows of a piece.
    piece: usize,
    /// The piece in memory.
    held: Range<usize>,
    numbers: Vec<f32>,
}

impl Rows {
    fn open(stored: &Stored, name: &'static str, steps: usize) -> Result<Self, String> {
        let dataset = stored.checked(&stored.file.root(), name)?;
        let unreadable =
            |error: hdf5_pure::Error| format!("`{name}` cannot be read: {}", hdf5_reason(&error));
        let shape = dataset.shape().map_err(unreadable)?;
        let (count, width) = match shape[..] {
            [count] => (count as usize, 1),
            [count, width] if width > 0 => (count as usize, width as usize),
            _ => return Err(format!("has `{name}` of shape {shape:?}, expected [{steps}, numbers]")),
        };
        same_length(name, count, steps)?;
        let whole = matches!(dataset.datatype().map_err(unreadable)?, Datatype::FixedPoint { .. });
        let chunk = dataset.chunk_shape().map_err(unreadable)?;
        let chunk = chunk.and_then(|chunk| chunk.first().copied()).map_or(1, |rows| rows.max(1) as usize);
        let piece = PIECE.div_ceil(chunk) * chunk;
        Ok(Self {
            dataset,
            name,
            width,
            count,
            whole,
            starts: Vec::new(),
            piece,
            held: 0..0,
            numbers: Vec::new(),
        })
    }

    /// Looks at all rows, a piece at a time, with the number of its first row; they must be finite.
    fn each_piece(
        &mut self,
        mut look: impl FnMut(usize, &[f32]) -> Result<(), String>,
    ) -> Result<(), String> {
        for start in (0..self.count).step_by(self.piece) {
            self.load(start)?;
            look(start, &self.numbers)?;
        }
        Ok(())
    }

    /// These rows, which are asked for in their order.
    fn take(&mut self, rows: Range<usize>) -> Result<Vec<f32>, String> {
        let mut taken = Vec::with_capacity(rows.len() * self.width);
        let mut next = rows.start;
        while next < rows.end {
            if !self.held.contains(&next) {
                self.load(next)?;
            }
            let until = rows.end.min(self.held.end);
            let offset = |row: usize| (row - self.held.start) * self.width;
            taken.extend(&self.numbers[offset(next)..offset(until)]);
            next = until;
        }
        Ok(taken)
    }

    /// Holds the piece of a row.
    fn load(&mut self, row: usize) -> Result<(), String> {
        let start = row - row % self.piece;
        let held = start..self.count.min(start + self.piece);
        let numbers = stored::floats(&self.dataset, self.name, held.start as u64..held.end as u64)?;
        if numbers.len() != held.len() * self.width {
            return Err(format!("`{}` ends before row {}", self.name, held.end));
        }
        let starts = if self.starts.is_empty() { &[0][..] } else { &self.starts };
        let from_start = numbers.into_iter().zip(starts.iter().cycle());
        self.numbers = from_start.map(|(x, start)| (x - *start as f64) as f32).collect();
        self.held = held;
        check_finite(self.name, &self.numbers, self.width, start)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use eva_rl_envs::Kwargs;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// `tools/golden/golden_d4rl.py` writes by h5py.
    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/d4rl").join(format!("{name}.hdf5"))
    }

    fn read(name: &str) -> (D4rl, Vec<Trajectory>) {
        let open = || D4rl::open(&golden(name), None).unwrap();
        (open(), open().into_episodes().collect::<anyhow::Result<_>>().unwrap())
    }

    /// Lengths and ends.
    fn shape(episodes: &[Trajectory]) -> Vec<(usize, Phase)> {
        episodes.iter().map(|episode| (episode.len(), episode.end)).collect()
    }

    /// What `golden_d4rl.py` calls observation `n`.
    fn observation(n: f32) -> [f32; 3] {
        [n, n + 0.25, n + 0.5]
    }

    use Phase::{Terminated, Truncated};

    #[test]
    fn without_next_observations_a_last_step_that_did_not_terminate_is_dropped() {
        let (file, episodes) = read("timeouts");
        assert_eq!(shape(&episodes), [(10, Terminated), (9, Truncated), (9, Truncated)]);
        assert_eq!((file.dropped, file.observation_width(), file.timeouts), (2, 3, true));
        assert_eq!(file.action, ActionSpace::Box { low: vec![-1.0; 2], high: vec![1.0; 2] });
        let row = |episode: usize, row: usize| episodes[episode].observations.row(row, 3).into_owned();
        assert_eq!((row(0, 9), row(0, 10)), (observation(9.0).to_vec(), observation(9.0).to_vec()));
        assert_eq!((row(1, 0), row(1, 9)), (observation(10.0).to_vec(), observation(19.0).to_vec()));
        assert_eq!(episodes[2].rewards, (20..29).map(|step| step as f32 / 2.0).collect::<Vec<_>>());
        assert_eq!(*episodes[1].actions.row(3, 2), [13f64.sin() as f32, 13f64.cos() as f32]);
        let succeeded: Vec<_> = episodes.iter().map(|episode| episode.succeeded).collect();
        assert_eq!(succeeded, [Some(true), Some(false), Some(false)]);
        assert!((file.mean_return() - (22.5 + 63.0 + 108.0) / 3.0).abs() < 1e-9);
    }

    #[test]
    fn next_observations_are_the_last_ones() {
        let (file, episodes) = read("next-observations");
        assert_eq!(shape(&episodes), [(10, Terminated), (10, Truncated), (10, Truncated)]);
        assert_eq!((file.dropped, episodes[0].succeeded), (0, None));
        for (episode, last) in episodes.iter().zip([9.5, 19.5, 29.5]) {
            assert_eq!(*episode.observations.row(10, 3), observation(last));
        }
    }

    #[test]
    fn without_timeouts_terminals_and_the_environment_s_limit_cut() {
        let (file, episodes) = read("no-timeouts");
        assert_eq!(shape(&episodes), [(10, Terminated), (19, Truncated)]);
        assert_eq!((file.dropped, file.timeouts), (1, false));
        let ActionSpace::Box { low, high } = file.action else { panic!("{:?}", file.action) };
        assert!(low[0] < -2.9 && high[0] > 2.9 && high[1] == 3.0, "{low:?} {high:?}");

        let flags = [false; 7];
        let found = cuts(&flags, None, Some(3), false);
        let found: Vec<_> = found.into_iter().map(|cut| (cut.rows, cut.steps, cut.end)).collect();
        assert_eq!(found, [(0..3, 2, Truncated), (3..6, 2, Truncated), (6..7, 0, Truncated)]);
    }

    #[test]
    fn a_terminal_step_is_terminal_whatever_the_time() {
        let found = cuts(&[false, true], Some(&[false, true]), None, false);
        assert_eq!(found, [Cut { rows: 0..2, steps: 2, end: Terminated }]);
    }

    #[test]
    fn integers_are_discrete_actions() {
        let (file, episodes) = read("discrete");
        assert_eq!(file.action, ActionSpace::Discrete { n: 3, start: 0 });
        assert_eq!(episodes[1].actions.all()[..4], [1.0, 2.0, 0.0, 1.0]);
    }

    #[test]
    fn an_episode_without_a_step_is_left_out() {
        let (file, episodes) = read("short");
        assert_eq!(shape(&episodes), [(10, Terminated), (8, Truncated), (9, Truncated)]);
        assert_eq!(file.dropped, 3);
    }

    #[track_caller]
    fn check_refused(name: &str, env: Option<&str>, sentence: &str) {
        let spec = env.map(|id| eva_rl_envs::spec(id, &Kwargs::new()).unwrap());
        let error = D4rl::open(&golden(name), spec.as_ref()).err().unwrap().to_string();
        assert!(error.ends_with(&format!("{name}.hdf5\": {sentence}")), "{error}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        check_refused("lengths", None, "has 29 steps in `actions`, expected 30 as in `rewards`");
        let required = "expected `observations`, `actions`, `rewards` and `terminals`";
        check_refused("rewards", None, &format!("has no `rewards`, {required}"));
        let nan = "has NaN in `observations` at step 7, dimension 2, expected a finite number";
        check_refused("nan", None, nan);
        check_refused(
            "widths",
            None,
            "has `next_observations` of 2 numbers, expected 3 as in `observations`",
        );
        check_refused("images", None, "has `observations` of shape [30, 4, 4, 3], expected [30, numbers]");
        let spec = Some("CartPole-v1");
        check_refused("timeouts", spec, "has `observations` of 3 numbers, expected 4 of `CartPole-v1`");
        let spec = Some("Pendulum-v1");
        check_refused("timeouts", spec, "has `actions` of 2 numbers, expected 1 of `Pendulum-v1`");
    }

    #[test]
    fn torn_and_twisted_files_are_refused_and_never_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("torn.hdf5");
        let mut draw = ChaCha8Rng::seed_from_u64(3);
        for name in ["timeouts", "next-observations"] {
            let whole = fs::read(golden(name)).unwrap();
            let mut refused = 0;
            for round in 0..1000 {
                let mut bytes = whole.clone();
                if round % 10 == 0 {
                    bytes.truncate(draw.gen_range(0..whole.len()));
                } else {
                    for _ in 0..draw.gen_range(1..40) {
                        let at = draw.gen_range(0..bytes.len());
                        bytes[at] = draw.r#gen();
                    }
                }
                fs::write(&path, bytes).unwrap();
                match D4rl::open(&path, None) {
                    Ok(file) => assert!(file.into_episodes().all(|episode| episode.is_ok())),
                    Err(error) => {
                        assert!(!error.to_string().contains('\n'));
                        refused += 1;
                    }
                }
            }
            assert!(refused >= 300, "{name}: only {refused} of 1000 were refused");
        }
    }
}
