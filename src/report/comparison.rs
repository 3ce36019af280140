//! Runs that were read, and their scores by task and group.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::groups::{self, Labelled, Settings};
use crate::config::{self, RunConfig};
use crate::evaluation::{Evaluated, Evaluation};
use crate::run_folder::{RunDir, RunState};
use crate::support::errors::{InputError, OrInput, tell};

/// What a run is judged by, at the first target return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// Mean undiscounted return
    Return,
    /// Percentage of episodes that succeeded
    Success,
    /// 100 at the reference expert, 0 at random play
    Normalized,
}

impl Measure {
    /// What an axis of it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Return => "mean return",
            Self::Success => "success, %",
            Self::Normalized => "normalised score",
        }
    }

    /// Whether scores of different tasks may be averaged.
    pub fn compares_tasks(self) -> bool {
        self != Self::Return
    }

    /// An evaluation's score.
    pub fn of(self, found: &Evaluation) -> Option<f64> {
        match self {
            Self::Return => Some(found.mean_return),
            Self::Success => found.success_rate.map(|rate| 100.0 * rate),
            Self::Normalized => found.normalized_score,
        }
    }
}

/// Runs that differ in nothing but the seed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Each run's scores by updates, the first before any.
    pub curves: Vec<BTreeMap<usize, f64>>,
    /// Each run's environment steps by updates.
    pub env_steps: Vec<BTreeMap<usize, usize>>,
    /// The update at which online fine-tuning begins, if it does.
    pub online_from: Option<usize>,
}

impl Group {
    /// Each run's first score.
    pub fn first(&self) -> Vec<f64> {
        self.curves.iter().filter_map(|curve| curve.values().next()).copied().collect()
    }

    /// Each run's last score.
    pub fn last(&self) -> Vec<f64> {
        self.curves.iter().filter_map(|curve| curve.values().next_back()).copied().collect()
    }

    /// The scores at each number of updates at which every run was evaluated.
    pub fn by_updates(&self) -> BTreeMap<usize, Vec<f64>> {
        let mut all: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for (updates, score) in self.curves.iter().flatten() {
            all.entry(*updates).or_default().push(*score);
        }
        all.retain(|_, scores| scores.len() == self.curves.len());
        all
    }
}

/// Runs by task, then by group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// At least one task with at least one run.
    pub tasks: BTreeMap<String, BTreeMap<String, Group>>,
}

/// A run that was read, and the group that it belongs to.
#[derive(Clone, Debug)]
pub struct LabelledRun {
    /// Where it lies.
    pub folder: PathBuf,
    pub(super) config: RunConfig,
    /// Every evaluation, at least one.
    pub(super) evaluations: Vec<Evaluated>,
    /// Its last checkpoint's state, if there is one.
    pub(super) state: Option<RunState>,
    /// What it did, whatever its seed.
    pub(super) settings: Settings,
    /// Its environment, with the options where they tell tasks apart.
    pub(super) task: String,
    /// Its group's name: the method, and what tells it from the method's other groups.
    pub(super) method: String,
}

/// Reads run folders, and tells which are seeds of one group.
pub fn label(folders: &[PathBuf]) -> anyhow::Result<Vec<LabelledRun>> {
    let mut runs: Vec<LabelledRun> = Vec::new();
    let mut seen = BTreeSet::new();
    for folder in folders {
        let run = LabelledRun::read(folder)?;
        match seen.insert(folder.canonicalize()?) {
            true => runs.push(run),
            false => tell(&format!("{folder:?} was named twice, and counts once")),
        }
    }
    // Options tell tasks apart, unless the ids do and all have the same options.
    let ids: BTreeSet<&str> = runs.iter().map(|run| run.config.env.id.as_str()).collect();
    let alike = runs.iter().all(|run| run.config.env.kwargs == runs[0].config.env.kwargs);
    let short = ids.len() > 1 && alike;
    for run in &mut runs {
        let env = &run.config.env;
        run.task = match short || env.kwargs.is_empty() {
            true => env.id.clone(),
            false => format!("{} {}", env.id, serde_json::to_string(&env.kwargs)?),
        };
    }
    let of_groups: Vec<Labelled> = runs
        .iter()
        .map(|LabelledRun { task, method, settings, .. }| Labelled { task, method, settings })
        .collect();
    let labels = groups::labels(&of_groups);
    for (run, label) in runs.iter_mut().zip(labels) {
        run.method = label;
    }
    Ok(runs)
}

impl LabelledRun {
    /// Reads a folder; task and method still lack what tells them from others'.
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let run_dir = RunDir::open(folder)?;
        let config = config::load(&run_dir.config(), &[]).or_input()?;
        let text = groups::read_evaluations(folder)?;
        let path = folder.join("evaluation.json");
        let evaluations = run_dir.evaluations()?;
        let last =
            evaluations.last().ok_or_else(|| InputError(format!("{path:?} holds no evaluations")))?.updates;
        let settings = groups::settings(&config, &text)?;
        let mut method = config.method_label();
        if !folder.join("README.md").exists() {
            method += &format!(", unfinished at update {last}");
        }
        let (folder, state) = (folder.to_owned(), run_dir.last_state());
        Ok(Self {
            folder: folder.to_owned(),
            config,
            evaluations,
            state,
            settings,
            task: String::new(),
            method,
        })
    }

    /// Its scores by updates.
    fn curve(&self, measure: Measure) -> anyhow::Result<BTreeMap<usize, f64>> {
        let score = |evaluated: &Evaluated| {
            let found = evaluated.targets.first().and_then(|target| measure.of(target));
            let found = found.ok_or_else(|| {
                let (path, name) =
                    (self.folder.join("evaluation.json"), measure.name().trim_end_matches(", %"));
                InputError(format!("{path:?} has no {name} at update {}", evaluated.updates))
            })?;
            Ok((evaluated.updates, found))
        };
        self.evaluations.iter().map(score).collect()
    }
}

/// What a reader of the tables must know of the runs: which are not finished, and which are not independent.
pub fn warnings(runs: &[LabelledRun]) -> Vec<String> {
    let unfinished = runs.iter().filter(|run| !run.folder.join("README.md").exists());
    let mut warnings: Vec<String> = unfinished
        .map(|run| format!("{:?} is not finished: its last evaluation stands for its end", run.folder))
        .collect();
    let seeds = runs
        .iter()
        .map(|run| (format!("{}, {}", run.task, run.method), run.config.seed, run.folder.as_path()));
    warnings.extend(groups::repeated_seeds(seeds));
    warnings
}

impl Comparison {
    /// Groups the runs' evaluations.
    pub fn new(runs: &[LabelledRun], measure: Measure) -> anyhow::Result<Self> {
        let mut tasks: BTreeMap<String, BTreeMap<String, Group>> = BTreeMap::new();
        for run in runs {
            let groups = tasks.entry(run.task.clone()).or_default();
            let group = groups.entry(run.method.clone()).or_default();
            group.curves.push(run.curve(measure)?);
            group
                .env_steps
                .push(run.evaluations.iter().map(|found| (found.updates, found.env_steps)).collect());
            group.online_from = run.config.online.as_ref().map(|_| run.config.offline.updates);
        }
        Ok(Self { tasks })
    }

    /// The tasks on which each of these methods has runs.
    pub fn shared_by(&self, methods: &[&str]) -> Vec<&BTreeMap<String, Group>> {
        self.tasks.values().filter(|found| methods.iter().all(|m| found.contains_key(*m))).collect()
    }

    /// Every method, in order.
    pub fn methods(&self) -> BTreeSet<&str> {
        self.tasks.values().flat_map(BTreeMap::keys).map(String::as_str).collect()
    }
}
