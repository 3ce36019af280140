//! A run under way: what every phase of it needs, and what is due between its updates.

mod evaluations;

use std::collections::HashMap;
use std::ops::Range;
use std::time::Instant;

use eva_rl_agents::model::{Conditioning, Inputs, Policy};
use eva_rl_agents::ranks::{Ranks, Traffic};
use eva_rl_envs::VecEnv;
use indicatif::ProgressBar;
use signal_hook::consts::SIGTERM;
use tch::Tensor;

use super::learner::{Learner, UpdateLoss};
use super::window_reader::WindowReader;
use crate::config::{ExplorationConfig, RunPlan};
use crate::data::{Replay, Trajectory, Windows};
use crate::evaluation::{Evaluated, Evaluation, Play, Task};
use crate::metrics::{self, Place, Recorder};
use crate::rollout::{self, ActionSelection, Inference, NoisyActor};
use crate::run_folder::{RunDir, RunState};
use crate::support::errors::{OrInput, tell};
use crate::support::progress;
use crate::support::seeds::{self, Purpose};
use crate::support::signals::{self, Stopped, unless_abandoned};

/// Updates after which the ranks look whether they train the same.
const CHECK_EVERY: usize = 100;

/// Updates between two records of the training numbers.
const RECORD_EVERY: usize = 10;

/// A run under way.
pub struct Run<'a> {
    /// What it is to do.
    pub plan: &'a RunPlan,
    /// What it trains.
    pub learner: Learner,
    /// What makes inputs of windows.
    pub reader: WindowReader,
    /// How its policy reads the environment.
    pub conditioning: Conditioning,
    /// The environment of its exploration and evaluations.
    pub env: Box<dyn VecEnv>,
    /// What is played in evaluations instead, where the plan says so.
    pub tasks: Vec<Task>,
    /// The greatest return of the data's episodes, of which targets may be multiples.
    pub best_return: f32,
    /// The validation episodes; holds nothing where there are none.
    pub validation: Replay,
    /// Where it stands.
    pub state: RunState,
    /// The tensors of the checkpoint that it goes on from; none in a new run.
    pub saved: HashMap<String, Tensor>,
    /// What is written down of it.
    pub log: RunLog<'a>,
    /// Those that share the work.
    pub ranks: &'static dyn Ranks,
    /// Whether the ranks have agreed to stop.
    pub stops: bool,
}

/// What is written down of a run.
pub struct RunLog<'a> {
    run_dir: &'a RunDir,
    recorder: &'a mut Recorder,
    /// Every evaluation so far.
    pub evaluations: Vec<Evaluated>,
    bar: ProgressBar,
    begun: Instant,
    /// Seconds that earlier parts of the run took.
    earlier_secs: f64,
    /// What ranks had cost at the last record.
    traffic: Traffic,
}

/// This rank's part of the batch of an update.
#[derive(Debug)]
pub struct BatchPart {
    /// Its windows.
    pub windows: Windows,
    /// Which rows of the batch they are.
    pub rows: Range<usize>,
    /// The windows of the batch.
    pub batch: usize,
    /// The share of the batch's real steps that is in them.
    pub share: f64,
}

/// How actions are chosen in exploration.
#[derive(Clone, Copy, Debug)]
pub enum Explorer {
    /// Sampled from Online DT's distribution.
    Sampled,
    /// The greedy action with so much noise.
    Noisy(f32),
}

impl<'a> RunLog<'a> {
    /// Opens the log of a run that stands at `state`.
    pub fn new(
        run_dir: &'a RunDir,
        recorder: &'a mut Recorder,
        evaluations: Vec<Evaluated>,
        state: &RunState,
        total: usize,
        ranks: &dyn Ranks,
    ) -> Self {
        let bar = progress::bar(total, "updates").with_position(state.updates as u64);
        let begun = Instant::now();
        let (earlier_secs, traffic) = (state.elapsed_secs, ranks.traffic());
        Self { run_dir, recorder, evaluations, bar, begun, earlier_secs, traffic }
    }
}

impl Run<'_> {
    /// Evaluates and saves as is due before the next update; false once the run is over.
    ///
    /// `state` are the tensors of the phase that a checkpoint must hold beside the learner's.
    pub fn checkpoint_and_evaluate(
        &mut self,
        state: impl FnOnce() -> Vec<(String, Tensor)>,
    ) -> anyhow::Result<bool> {
        let updates = self.state.updates;
        let last = updates == self.plan.total_updates();
        let evaluated = self.log.evaluations.last().is_some_and(|e| e.updates == updates);
        let due = (updates.is_multiple_of(self.plan.evaluation.every) || last) && !evaluated;
        // An evaluation that is abandoned is made when the run is resumed.
        let abandoned = due && !self.evaluate()?;
        if due && !abandoned && updates == 0 && self.ranks.is_first() {
            self.record_video("before")?;
        }
        let patience = self.out_of_patience();
        let over = (last || patience) && !abandoned;
        if due && over {
            if patience && !last {
                tell(&format!("update {updates:>6}: no better for long enough: the run ends"));
            }
            if self.ranks.is_first() {
                self.record_video("after")?;
            }
        }
        let stopping = self.stopping().filter(|_| !over);
        if updates.is_multiple_of(self.plan.checkpoint.every) || over || stopping.is_some() {
            self.save(state())?;
        }
        if let Some(signal) = stopping {
            self.log.bar.finish_and_clear();
            let (total, folder) = (self.plan.total_updates(), self.log.run_dir.root());
            let text = format!(
                "at update {updates} of {total}, which is saved; resume with: eva-rl train --resume {folder:?}"
            );
            return Err(Stopped { signal, text }.into());
        }
        if over {
            self.log.bar.finish_and_clear();
            self.log.recorder.flush()?;
        }
        Ok(!over)
    }

    /// The signal by which the run was asked to stop, once all ranks know that one was.
    fn stopping(&self) -> Option<i32> {
        match self.ranks.is_alone() {
            true => signals::asked(),
            false => self.stops.then(|| signals::asked().unwrap_or(SIGTERM)),
        }
    }

    /// Refuses to go on where what the ranks train is no longer the same.
    fn check_ranks(&self) -> anyhow::Result<()> {
        if self.ranks.is_alone() {
            return Ok(());
        }
        let sums = self.ranks.gather(self.learner.checksum().as_bytes());
        match sums.iter().position(|sum| *sum != sums[0]) {
            None => Ok(()),
            Some(rank) => Err(anyhow::anyhow!(
                "after update {} rank {rank} has other weights than rank 0, expected the same bits; the last checkpoint in {:?} is whole",
                self.state.updates,
                self.log.run_dir.root()
            )),
        }
    }

    /// Whether a round of exploration begins before the next update.
    pub fn round_begins(&self, exploration: &ExplorationConfig) -> bool {
        let due = self.plan.offline.updates + self.state.rounds * exploration.updates_per_round;
        self.state.updates == due
    }

    /// Plays one episode in every environment; each `group` in a row have one start. Gives the episodes of all ranks, or
    /// this one's own where replays are sharded. Nothing where the run is to stop, which then stands where it stood: the round is played when the run is resumed.
    pub fn explore(
        &mut self,
        exploration: &ExplorationConfig,
        explorer: Explorer,
        group: usize,
    ) -> anyhow::Result<Option<Vec<Trajectory>>> {
        let begun = Instant::now();
        let space = self.env.spec().action.clone();
        let acting = self.learner.acting();
        let seed = seeds::seed(self.plan.seed, Purpose::Exploration, self.state.rounds);
        let (episodes, target_return) = (self.plan.env.num_envs, self.exploration_target(exploration));
        let (conditioning, inference) = (&self.conditioning, self.of_policy(self.plan.rollout.inference));
        let (env, ranks) = (self.env.as_mut(), self.ranks);
        let played = match explorer {
            Explorer::Sampled => {
                let head = self.learner.head.as_ref();
                let head = head.expect("a plan that draws actions has Online DT's distribution");
                let choice = ActionSelection::Sampled(&acting, head);
                let play = Play { choice, conditioning, target_return, inference, prompt: None, ranks };
                rollout::play_groups(env, &mut play.actor(&space), episodes, seed, group, ranks)
            }
            Explorer::Noisy(scale) => {
                let policy = Policy::Transformer(acting);
                let choice = ActionSelection::Greedy(&policy);
                let play = Play { choice, conditioning, target_return, inference, prompt: None, ranks };
                let actor = play.actor(&space);
                let mut actor = NoisyActor { actor, space: space.clone(), scales: vec![scale] };
                rollout::play_groups(env, &mut actor, episodes, seed, group, ranks)
            }
        };
        let Some(played) = unless_abandoned(played)? else {
            self.stops = true;
            return Ok(None);
        };
        let steps: usize = played.outcomes.iter().map(|outcome| outcome.steps).sum();
        self.state.env_steps += steps;
        self.state.rounds += 1;
        let speed = steps as f64 / begun.elapsed().as_secs_f64();
        self.record_exploration(&Evaluation::of(&played, self.env.spec()), speed)?;
        let reached = played.episodes.iter().flat_map(Trajectory::returns_to_go);
        let reached = reached.reduce(f32::max).map_or(Vec::new(), |reached| reached.to_le_bytes().to_vec());
        let reached = self.ranks.gather(&reached).concat();
        let reached = reached.as_chunks().0.iter().map(|reached| f32::from_le_bytes(*reached));
        self.state.max_return_to_go = self.state.max_return_to_go.into_iter().chain(reached).reduce(f32::max);
        self.learn_what_was_reached();
        match self.plan.shards_replay() {
            true => Ok(Some(played.episodes)),
            false => Ok(Some(rollout::gather_episodes(played.episodes, self.ranks)?)),
        }
    }

    /// The target return of exploration.
    pub fn exploration_target(&self, exploration: &ExplorationConfig) -> f32 {
        let own = exploration.target_return.map(|target| target.given(self.best_return));
        own.unwrap_or(self.conditioning.target_return)
    }

    /// The target returns of evaluations; those of the datasets' own environments are the tasks' own.
    fn evaluation_targets(&self) -> Vec<f32> {
        match self.plan.evaluation.target_returns.as_slice() {
            [] => vec![self.conditioning.target_return],
            targets => targets.iter().map(|target| target.given(self.best_return)).collect(),
        }
    }

    /// What the policy computes where `asked` is asked for.
    fn of_policy(&self, asked: Inference) -> Inference {
        asked.of(self.learner.policy.config())
    }

    /// Says on what the policy is conditioned, and which of it lies far outside of the data's returns.
    pub fn tell_targets(&self, data: &Replay) {
        let setting = |target_return, inference| {
            let cap = self.conditioning.return_cap;
            let cap = cap.map(|cap| format!(", returns-to-go capped at {cap}")).unwrap_or_default();
            let target = match self.conditioning.reads_returns {
                true => format!("target return {target_return}{cap}, "),
                false => String::new(),
            };
            format!("{target}{inference} inference")
        };
        let mut targets = Vec::new();
        if self.tasks.is_empty() {
            for target in self.evaluation_targets() {
                tell(&format!(
                    "evaluation: {}",
                    setting(target, self.of_policy(self.plan.evaluation.inference))
                ));
                targets.push(target);
            }
        }
        if let Some(online) = &self.plan.online {
            let target = self.exploration_target(online.exploration());
            tell(&format!("exploration: {}", setting(target, self.of_policy(self.plan.rollout.inference))));
            targets.push(target);
        }
        let returns = || data.trajectories().map(|trajectory| trajectory.total_return() as f32);
        let (Some(lowest), Some(highest)) = (returns().reduce(f32::min), returns().reduce(f32::max)) else {
            return;
        };
        targets.dedup();
        for target in targets.into_iter().filter(|target| is_far_outside(*target, lowest, highest)) {
            tell(&format!(
                "target return {target} lies far outside of the data's returns, {lowest:.1} to {highest:.1}"
            ));
        }
    }

    /// What exploration has reached raises what the policy knows of returns.
    pub fn learn_what_was_reached(&mut self) {
        if let (Some(known), Some(reached)) =
            (self.conditioning.max_return_to_go, self.state.max_return_to_go)
        {
            self.conditioning.max_return_to_go = Some(known.max(reached));
            self.learner.policy.config_mut().max_return_to_go = self.conditioning.max_return_to_go;
        }
    }

    /// A replay that goes on from the run's checkpoint, or begins with the best offline trajectories; this rank's shard
    /// of it where replays are sharded.
    pub fn replay(&mut self, capacity: usize, offline: Replay) -> anyhow::Result<Replay> {
        let (observations, actions) = (self.env.spec().observation_width(), self.env.spec().action.width());
        let mut replay = Replay::new(capacity, observations, actions).read_by(&self.conditioning);
        let restored = crate::run_folder::restore_replay(&mut replay, &self.saved, self.env.spec());
        if !restored.or_input()? {
            replay.push_best(offline.into_trajectories());
        }
        let lengths = crate::run_folder::shard_lengths(&self.saved);
        self.saved.retain(|name, _| !name.starts_with("replay."));
        let shards = self.plan.shards_replay() && !self.ranks.is_alone();
        Ok(if shards { replay.shard(self.ranks.rank(), self.ranks.size(), &lengths) } else { replay })
    }

    /// This rank's windows of the next update; torch draws the update's own noise from here on.
    pub fn windows(&self, replay: &Replay) -> BatchPart {
        let (batch, steps) = (self.plan.optimiser.batch_size, self.conditioning.context_length);
        let mut draw = seeds::generator(self.plan.seed, Purpose::UpdateWindows, self.state.updates);
        seeds::seed_torch(self.plan.seed, Purpose::UpdateNoise, self.state.updates);
        // Every rank draws the whole batch, of its shard where it has one, and takes its rows.
        let starts = replay.starts(batch, &mut draw);
        let rows = self.ranks.part(batch);
        let own = replay.real_steps(&starts[rows.clone()], steps);
        let all = if replay.is_shard() { self.ranks.count(own) } else { replay.real_steps(&starts, steps) };
        let share = own as f64 / all as f64;
        BatchPart { windows: replay.windows(&starts[rows.clone()], steps), rows, batch, share }
    }

    /// Windows as the policy reads them.
    pub fn inputs(&mut self, windows: &Windows) -> Inputs {
        self.reader.read(&self.learner.policy, &self.conditioning, windows)
    }

    /// The inputs of this rank's part of an update's batch, and the run's loss on it.
    pub fn loss(&mut self, part: &BatchPart) -> (Inputs, UpdateLoss) {
        let inputs = self.inputs(&part.windows);
        let loss = self.learner.loss(&inputs, Some(part.rows.clone()));
        (inputs, UpdateLoss { share: part.share, ..loss })
    }

    /// One update down a loss of `inputs`.
    pub fn step(&mut self, inputs: &Inputs, update_loss: &UpdateLoss) -> anyhow::Result<()> {
        let (update, total) = (self.state.updates, self.plan.total_updates());
        let settings = self.plan.optimiser_of(update);
        let stops = signals::asked().is_some();
        let descent = match self.learner.descend(update_loss, update, total, &settings, self.ranks, stops) {
            Ok(descent) => descent,
            Err(what) => return Err(self.not_finite(inputs, &what)),
        };
        self.state.updates += 1;
        if !self.ranks.is_alone() {
            self.stops = descent.stops;
            if self.state.updates.is_multiple_of(CHECK_EVERY) {
                self.check_ranks()?;
            }
        }
        self.log.bar.inc(1);
        self.state.losses.push(descent.loss);
        if self.state.updates.is_multiple_of(RECORD_EVERY) {
            let (updates, recorder) = (self.state.updates, &mut *self.log.recorder);
            let losses = std::mem::take(&mut self.state.losses);
            let mean = losses.iter().sum::<f64>() / losses.len() as f64;
            recorder.scalar(metrics::LOSS, updates, mean)?;
            recorder.scalar(metrics::LEARNING_RATE, updates, descent.learning_rate)?;
            recorder.scalar(metrics::GRAD_NORM, updates, descent.grad_norm)?;
            for (metric, number) in &descent.parts {
                recorder.scalar(*metric, updates, *number)?;
            }
            if !self.ranks.is_alone() {
                let (before, now) = (self.log.traffic, self.ranks.traffic());
                recorder.scalar(
                    metrics::COMMUNICATION_SECS,
                    updates,
                    (now.secs - before.secs) / RECORD_EVERY as f64,
                )?;
                let bytes = (now.bytes - before.bytes) as f64 / RECORD_EVERY as f64;
                recorder.scalar(metrics::COMMUNICATED_BYTES, updates, bytes)?;
                self.log.traffic = now;
            }
        }
        Ok(())
    }

    /// Why a run stops at an update that gives no finite numbers.
    pub fn not_finite(&self, inputs: &Inputs, what: &str) -> anyhow::Error {
        self.log.bar.finish_and_clear();
        let culprit = self.learner.first_not_finite(inputs);
        let culprit = culprit.map_or_else(|| "all maps' outputs are finite".to_owned(), |c| c.to_string());
        anyhow::anyhow!(
            "update {0} was not made: on its batch (the windows that seed {1} draws for update {0}) {what}, and {culprit}; the last checkpoint in {2:?} is whole",
            self.state.updates,
            self.plan.seed,
            self.log.run_dir.root()
        )
    }

    /// Saves a checkpoint: the learner, where the run stands, and the phase's own tensors.
    fn save(&mut self, phase: Vec<(String, Tensor)>) -> anyhow::Result<()> {
        self.log.recorder.flush()?;
        self.state.elapsed_secs = self.log.earlier_secs + self.log.begun.elapsed().as_secs_f64();
        self.state.evaluations.clone_from(&self.log.evaluations);
        let mut tensors = self.learner.state();
        tensors.extend(phase);
        let run_dir = self.log.run_dir;
        run_dir.save(&self.state, &tensors, |folder| self.learner.write(folder))?;
        match self.plan.checkpoint.keep {
            Some(keep) => run_dir.keep_latest(keep),
            None => Ok(()),
        }
    }

    /// Where the numbers of this moment stand.
    fn place(&self) -> Place {
        let env_steps = self.plan.online.is_some().then_some(self.state.env_steps);
        Place { updates: self.state.updates, env_steps }
    }

    fn record_exploration(&mut self, explored: &Evaluation, speed: f64) -> anyhow::Result<()> {
        let at = self.place();
        self.log.recorder.exploration(at, explored, speed)?;
        self.log.bar.set_message(format!("explored {:.0}", explored.mean_return));
        Ok(())
    }
}

/// Whether a target lies further from returns than they span, or than a tenth of their size.
fn is_far_outside(target: f32, lowest: f32, highest: f32) -> bool {
    let span = (highest - lowest).max(0.1 * lowest.abs().max(highest.abs()));
    target > highest + span || target < lowest - span
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_far_outside_where_it_lies_further_off_than_the_returns_span() {
        for (target, lowest, highest, far) in [
            (-150.0, 500.0, 500.0, true),
            (520.0, 500.0, 500.0, false),
            (-150.0, -1300.0, -120.0, false),
            (1000.0, -1300.0, -120.0, false),
            (1100.0, -1300.0, -120.0, true),
            (3000.0, 16.0, 990.0, true),
            (1900.0, 16.0, 990.0, false),
            (-1000.0, 16.0, 990.0, true),
        ] {
            assert_eq!(is_far_outside(target, lowest, highest), far, "{target} beside {lowest} to {highest}");
        }
    }
}
