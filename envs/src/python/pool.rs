//! A batch of environments in worker processes, which are started again where they fail.

use std::ops::Range;
use std::time::{Duration, Instant};

use rand::RngCore;

use super::env_contract::EnvContract;
use super::extras::Extras;
use super::fork_server::Starter;
use super::interpreter::{interpreter, remedy};
use super::library::{Library, split};
use super::process::{Host, Process, Task, WorkerConfig};
use super::settings::BridgeSettings;
use super::shared_buffer::{Answer, SharedBuffer, Widths};
use crate::core::error::EnvError;
use crate::core::kwargs::Kwargs;
use crate::core::seeding::Episodes;
use crate::core::space::ImageLeaf;
use crate::core::spec::{EnvSpec, Phase};
use crate::core::vec_env::{StepBatch, VecEnv};
use crate::core::vec_env::{assert_len, check_actions};
use crate::core::worker_failure::{Failure, Incident};
use crate::render::Frame;

/// Makes a batch of `num_envs` environments, of an id with a prefix.
pub(crate) fn pool(
    id: &str,
    kwargs: &Kwargs,
    num_envs: usize,
    settings: &BridgeSettings,
) -> Result<Box<dyn VecEnv>, EnvError> {
    let (library, inner) = split(id).expect("the id is bridged");
    let order = WorkerConfig {
        host: match library {
            Library::EnvPool => Host::EnvPool,
            Library::Gymnasium => Host::Gymnasium,
        },
        id: inner.to_owned(),
        kwargs: kwargs.clone(),
        imports: settings.imports.clone(),
        rows: 0,
        bot: settings.bot,
    };
    let timeout = Duration::from_secs_f64(settings.timeout_secs);
    let mut starter = Starter::new(interpreter(settings.python.as_deref()), order, timeout);
    let processes = match library {
        Library::EnvPool => 1,
        Library::Gymnasium => settings.processes.clamp(1, num_envs),
    };
    // All start at once; then each says what it hosts.
    let ranges = (0..processes).map(|index| share(num_envs, processes, index));
    let started: Result<Vec<_>, Failure> =
        ranges.map(|rows| Ok((starter.start(rows.len())?, rows))).collect();
    let explain = |failure| start_error(id, starter.python(), failure);
    let mut spec = None;
    let mut slots = Vec::with_capacity(processes);
    for (mut worker, rows) in started.map_err(explain)? {
        let contract = contract(&mut worker).map_err(explain)?;
        let (spec, image) = match &spec {
            None => spec.insert(contract.spec(id, settings)?),
            Some(spec) => spec,
        };
        let widths = widths(spec, *image, settings.bot);
        let region = worker.map(rows.len(), widths, &spec.infos).map_err(explain)?;
        slots.push(WorkerSlot {
            live: Some(Live { worker, region }),
            rows,
            failures: 0,
            lives: 0,
            steps: 0,
            last: None,
        });
    }
    let (spec, image) = spec.expect("there is at least one worker");
    let widths = widths(&spec, image, settings.bot);
    let scratch = Scratch {
        seeds: vec![0; num_envs],
        phases: vec![0; num_envs],
        finals: Vec::new(),
        final_pixels: Vec::new(),
    };
    Ok(Box::new(BridgePool {
        spec,
        widths,
        extras: Extras::new(num_envs, widths),
        library,
        starter,
        restarts: settings.restarts,
        slots,
        first_worker: 0,
        episodes: None,
        playing: vec![0; num_envs],
        retired: vec![false; num_envs],
        incidents: Vec::new(),
        scratch,
    }))
}

/// Rows of a batch, divided among workers.
pub(crate) struct BridgePool {
    spec: EnvSpec,
    widths: Widths,
    extras: Extras,
    library: Library,
    starter: Starter,
    restarts: u32,
    slots: Vec<WorkerSlot>,
    /// Workers of the larger batch that come before these.
    first_worker: usize,
    episodes: Option<Episodes>,
    /// Number of each environment's episode.
    playing: Vec<u64>,
    /// Whether nobody looks at an environment until episodes begin again.
    retired: Vec<bool>,
    /// Failures that nobody has asked about yet.
    incidents: Vec<Incident>,
    scratch: Scratch,
}

/// Buffers of one number per row, and of the final observations of one worker.
struct Scratch {
    seeds: Vec<u32>,
    phases: Vec<u8>,
    finals: Vec<f32>,
    final_pixels: Vec<u8>,
}

/// A worker's place in a pool: the rows that it hosts, and its history.
struct WorkerSlot {
    /// Absent once it may not be started again.
    live: Option<Live>,
    rows: Range<usize>,
    /// How often it has failed.
    failures: u32,
    /// How often it was started again since the last reset.
    lives: u64,
    /// Steps since it was reset or started.
    steps: u64,
    /// The error that its environment raised last, and at which step.
    last: Option<(Failure, u64)>,
}

struct Live {
    worker: Process,
    region: SharedBuffer,
}

impl VecEnv for BridgePool {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn num_envs(&self) -> usize {
        self.playing.len()
    }

    fn begin(&mut self, episodes: Episodes, observations: &mut [f32]) -> Result<(), EnvError> {
        let width = self.spec.observation_width();
        assert_len("observations", observations.len(), self.num_envs() * width);

        self.episodes = Some(episodes);
        self.retired.fill(false);
        for (i, episode) in self.playing.iter_mut().enumerate() {
            *episode = episodes.first_of(i);
        }
        for index in 0..self.slots.len() {
            self.slots[index].lives = 0;
            self.slots[index].steps = 0;
            self.draw_seeds(index, 0);
        }
        let told: Vec<_> =
            self.slots.iter_mut().map(|slot| slot.tell(Task::Reset, &[], &self.scratch.seeds)).collect();
        for (index, told) in told.into_iter().enumerate() {
            let slot = &mut self.slots[index];
            let rows = &mut observations[slot.rows.start * width..slot.rows.end * width];
            if let Err(failure) = told.and_then(|deadline| slot.take_start(deadline, rows, &mut self.extras))
            {
                self.replace(index, failure, 0, observations)?;
            }
        }
        Ok(())
    }

    fn step(&mut self, actions: &[f32], batch: &mut StepBatch) -> Result<(), EnvError> {
        let stride = self.episodes.expect("a pool is reset before its first step").stride;
        let num_envs = self.num_envs();
        let (wide, high) = (self.spec.observation_width(), self.spec.action.width());
        assert_len("actions", actions.len(), num_envs * high);
        batch.assert_fits(&self.spec, num_envs);
        check_actions(&self.spec.action, actions)?;

        for index in 0..self.slots.len() {
            self.draw_seeds(index, stride); // of the episodes that follow
        }
        let told: Vec<_> = self
            .slots
            .iter_mut()
            .map(|slot| {
                let rows = slot.rows.start * high..slot.rows.end * high;
                slot.tell(Task::Step, &actions[rows], &self.scratch.seeds)
            })
            .collect();
        // The last one first: when it has answered, most others have too, and nobody sleeps for them.
        let mut taken: Vec<_> = told
            .into_iter()
            .zip(&mut self.slots)
            .rev()
            .map(|(told, slot)| slot.take_step(told?, wide, batch, &mut self.extras, &mut self.scratch))
            .collect();
        taken.reverse();
        for (index, taken) in taken.into_iter().enumerate() {
            let rows = self.slots[index].rows.clone();
            match taken {
                Ok(()) => {
                    self.slots[index].steps += 1;
                    for row in rows.filter(|row| batch.phases[*row] != Phase::Running) {
                        self.playing[row] += stride;
                    }
                }
                Err(failure) => {
                    self.replace(index, failure, rows.len(), &mut batch.observations)?;
                    batch.phases[rows.clone()].fill(Phase::Lost);
                    batch.rewards[rows.clone()].fill(0.0);
                    let infos = self.spec.infos.len();
                    batch.infos[rows.start * infos..rows.end * infos].fill(0.0);
                }
            }
        }
        Ok(())
    }

    fn retire(&mut self, env: usize) {
        self.retired[env] = true;
    }

    fn pixels(&self, env: usize) -> &[u8] {
        self.extras.pixels(env..env + 1)
    }

    fn final_pixels(&self, env: usize) -> &[u8] {
        self.extras.last(env)
    }

    fn expert_action(&self, env: usize) -> &[f32] {
        self.extras.expert(env)
    }

    fn render(&mut self, env: usize) -> Result<Option<Frame>, EnvError> {
        let index =
            self.slots.iter().position(|slot| slot.rows.contains(&env)).expect("the row is in the batch");
        let slot = &mut self.slots[index];
        let row = u32::try_from(env - slot.rows.start).expect("a batch has less than 2^32 rows");
        let drawn = slot.live().and_then(|live| {
            live.worker.tell(Task::Draw { row })?;
            let deadline = live.worker.deadline();
            picture(live.worker.message(deadline)?)
        });
        drawn.map(Some).map_err(|failure| EnvError::Drawing { id: self.spec.id.clone(), failure })
    }

    fn workers(&self) -> usize {
        self.slots.len()
    }

    fn number_workers_from(&mut self, first: usize) {
        self.first_worker = first;
    }

    fn incidents(&mut self) -> Vec<Incident> {
        std::mem::take(&mut self.incidents)
    }
}

impl BridgePool {
    /// Draws the seeds with which a worker's rows begin the episode `ahead` of theirs; of a retired one the worker is told
    /// so instead.
    ///
    /// EnvPool draws all of an environment's episodes from the seed of its first, so there a seed is of
    /// the environment; one that was started again must not play the same episodes again.
    fn draw_seeds(&mut self, index: usize, ahead: u64) {
        let episodes = self.episodes.expect("the pool was reset");
        let slot = &self.slots[index];
        for row in slot.rows.clone() {
            self.scratch.seeds[row] = match self.library {
                Library::Gymnasium => draw_seed(&episodes, self.playing[row] + ahead, 0),
                Library::EnvPool if ahead == 0 => draw_seed(&episodes, episodes.first_of(row), slot.lives),
                Library::EnvPool => 0, // nobody reads it
            };
            if self.retired[row] && ahead > 0 {
                self.scratch.seeds[row] = RETIRED;
            }
        }
    }

    /// Starts a failed worker again, and the episodes of its rows; gives up after too many failures.
    fn replace(
        &mut self,
        index: usize,
        mut failure: Failure,
        lost: usize,
        observations: &mut [f32],
    ) -> Result<(), EnvError> {
        loop {
            let slot = &mut self.slots[index];
            if let Some(mut live) = slot.live.take() {
                live.worker.kill();
            }
            slot.failures = (slot.failures + 1).min(self.restarts + 1);
            let raised = matches!(failure, Failure::Raised { .. }).then(|| (failure.clone(), slot.steps));
            if raised.is_some() && raised == slot.last {
                let (id, step) = (self.spec.id.clone(), slot.steps);
                slot.failures = self.restarts + 1; // it stays dead
                return Err(EnvError::Deterministic { id, worker: self.first_worker + index, step, failure });
            }
            slot.last = raised;
            if slot.failures > self.restarts {
                return Err(EnvError::Worker {
                    id: self.spec.id.clone(),
                    worker: self.first_worker + index,
                    failures: slot.failures,
                    failure,
                });
            }
            slot.lives += 1;
            slot.steps = 0;
            let incident = Incident {
                id: self.spec.id.clone(),
                worker: self.first_worker + index,
                failure: failure.clone(),
                lost,
                failures: slot.failures,
                restarts: self.restarts,
            };
            self.incidents.push(incident);
            match self.revive(index, observations) {
                Ok(()) => return Ok(()),
                Err(next) => failure = next,
            }
        }
    }

    /// Starts a worker, and an episode in each of its rows.
    fn revive(&mut self, index: usize, observations: &mut [f32]) -> Result<(), Failure> {
        self.draw_seeds(index, 0);
        let width = self.spec.observation_width();
        let slot = &mut self.slots[index];
        let mut worker = self.starter.start(slot.rows.len())?;
        contract(&mut worker)?;
        let region = worker.map(slot.rows.len(), self.widths, &self.spec.infos)?;
        slot.live = Some(Live { worker, region });
        let deadline = slot.tell(Task::Reset, &[], &self.scratch.seeds)?;
        let rows = slot.rows.start * width..slot.rows.end * width;
        slot.take_start(deadline, &mut observations[rows], &mut self.extras)
    }
}

impl WorkerSlot {
    fn live(&mut self) -> Result<&mut Live, Failure> {
        self.live.as_mut().ok_or_else(|| Failure::Died("has failed too often already".to_owned()))
    }

    /// Hands a worker its rows of what it needs, and gives the time by which it must have answered.
    fn tell(&mut self, task: Task, actions: &[f32], seeds: &[u32]) -> Result<Instant, Failure> {
        let seeds = &seeds[self.rows.clone()];
        let live = self.live()?;
        live.region.write(seeds, actions)?;
        live.worker.tell(task)?;
        Ok(live.worker.deadline())
    }

    /// Reads the first observations of its rows, and what is beside them.
    fn take_start(
        &mut self,
        deadline: Instant,
        observations: &mut [f32],
        extras: &mut Extras,
    ) -> Result<(), Failure> {
        let (pixels, experts) = extras.rows(&self.rows);
        let live = self.live()?;
        live.worker.done(deadline)?;
        live.region.read_start(observations, experts, pixels)?;
        check_finite("an observation", observations)?;
        check_finite("an expert's action", experts)
    }

    /// Reads what a step gave into its rows of the batch.
    fn take_step(
        &mut self,
        deadline: Instant,
        width: usize,
        batch: &mut StepBatch,
        extras: &mut Extras,
        scratch: &mut Scratch,
    ) -> Result<(), Failure> {
        let rows = self.rows.clone();
        let live = self.live()?;
        live.worker.done(deadline)?;
        let columns = batch.infos.len() / batch.phases.len();
        let (pixels, experts) = extras.rows(&rows);
        let answer = Answer {
            observations: &mut batch.observations[rows.start * width..rows.end * width],
            rewards: &mut batch.rewards[rows.clone()],
            infos: &mut batch.infos[rows.start * columns..rows.end * columns],
            phases: &mut scratch.phases[rows.clone()],
            expert_actions: experts,
            pixels,
        };
        live.region.read(answer)?;
        check_finite("an observation", &batch.observations[rows.start * width..rows.end * width])?;
        check_finite("an expert's action", extras.rows(&rows).1)?;
        check_finite("a reward", &batch.rewards[rows.clone()])?;
        check_finite("an info", &batch.infos[rows.start * columns..rows.end * columns])?;
        let mut ended = 0;
        for row in rows.clone() {
            batch.phases[row] = match scratch.phases[row] {
                0 => Phase::Running,
                1 => Phase::Terminated,
                2 => Phase::Truncated,
                other => {
                    return Err(Failure::Nonsense(format!("it gave the phase {other}, which means nothing")));
                }
            };
            ended += usize::from(batch.phases[row] != Phase::Running);
        }
        if ended == 0 {
            return Ok(());
        }
        scratch.finals.resize(ended * width, 0.0);
        scratch.final_pixels.resize(ended * extras.bytes, 0);
        live.region.read_finals(&mut scratch.finals, &mut scratch.final_pixels)?;
        check_finite("an observation", &scratch.finals)?;
        let ended = rows.filter(|row| batch.phases[*row] != Phase::Running);
        for (index, row) in ended.enumerate() {
            let last = &scratch.finals[index * width..][..width];
            batch.final_observations[row * width..][..width].copy_from_slice(last);
            let last = &scratch.final_pixels[index * extras.bytes..][..extras.bytes];
            extras.last_mut(row).copy_from_slice(last);
        }
        Ok(())
    }
}

/// The rows of one of several workers, whose shares differ by one at most.
fn share(num_envs: usize, processes: usize, index: usize) -> Range<usize> {
    let start = |index: usize| index * num_envs / processes;
    start(index)..start(index + 1)
}

fn widths(spec: &EnvSpec, image: Option<ImageLeaf>, bot: bool) -> Widths {
    let (action, observation) = (spec.action.width(), spec.observation_width());
    Widths { action, observation, infos: spec.infos.len(), image, expert: if bot { action } else { 0 } }
}

/// In place of a seed, which has 31 bits: the environment is not stepped.
const RETIRED: u32 = u32::MAX;

/// The n-th seed of an episode, such as Python's libraries take: 31 bits.
fn draw_seed(episodes: &Episodes, episode: u64, n: u64) -> u32 {
    let mut rng = episodes.rng(episode);
    for _ in 0..n {
        rng.next_u32();
    }
    rng.next_u32() >> 1
}

fn contract(worker: &mut Process) -> Result<EnvContract, Failure> {
    worker.contract()?.ok_or_else(|| Failure::Nonsense("it has no contract".to_owned()))
}

pub(super) fn check_finite(what: &str, numbers: &[f32]) -> Result<(), Failure> {
    match numbers.iter().find(|number| !number.is_finite()) {
        None => Ok(()),
        Some(found) => Err(Failure::Nonsense(format!("it gave {what} with {found}, expected numbers"))),
    }
}

/// Why an environment could not be made, with what to do about a missing package.
pub(super) fn start_error(id: &str, python: &std::path::Path, failure: Failure) -> EnvError {
    let remedy = match &failure {
        Failure::Raised { package: Some(module), .. } => Some(remedy(python, module)),
        _ => None,
    };
    EnvError::Start { id: id.to_owned(), failure, remedy }
}

fn picture(bytes: Vec<u8>) -> Result<Frame, Failure> {
    let nonsense = || Failure::Nonsense("its picture has the wrong length".to_owned());
    let (head, rgb) = bytes.split_at_checked(8).ok_or_else(nonsense)?;
    let side = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    let (width, height) = (side(0), side(4));
    if width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3)) != Some(rgb.len()) {
        return Err(nonsense());
    }
    Ok(Frame { width, height, rgb: rgb.to_vec() })
}
