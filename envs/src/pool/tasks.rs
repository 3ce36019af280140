//! Steps many native tasks on rayon's threads, each writing its row of one buffer.

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use crate::core::error::EnvError;
use crate::core::seeding::Episodes;
use crate::core::spec::{EnvSpec, Phase};
use crate::core::task::{Step, Task};
use crate::core::vec_env::{StepBatch, VecEnv};
use crate::core::vec_env::{assert_len, check_actions};
use crate::render::Frame;

/// For tasks of a microsecond or more a step. Handing rows to another thread costs about ten.
const DEFAULT_GRAIN: usize = 16;

/// A batch of tasks in this process. Results do not depend on how many threads step it.
pub struct TaskPool<T> {
    spec: EnvSpec,
    lanes: Vec<Lane<T>>,
    episodes: Option<Episodes>,
    grain: usize,
}

impl<T: Task> TaskPool<T> {
    /// A pool of tasks that share one contract, which is the first one's; at least one task.
    pub fn new(tasks: Vec<T>) -> Self {
        let spec = tasks.first().expect("a pool has at least one task").spec().clone();
        let lanes =
            tasks.into_iter().map(|task| Lane { task, steps: 0, episode: 0, retired: false }).collect();
        Self { spec, lanes, episodes: None, grain: DEFAULT_GRAIN }
    }

    /// Sets the fewest tasks that are worth a thread of their own: 1 where a step is slow.
    pub fn with_grain(self, grain: usize) -> Self {
        Self { grain: grain.max(1), ..self }
    }

    /// How many tasks one thread takes at a time.
    fn rows_per_chunk(&self) -> usize {
        let threads = rayon::current_num_threads();
        if threads == 1 {
            return self.lanes.len();
        }
        // Four chunks per thread even out episodes that are reset, and a neighbour that takes part of a core.
        self.grain.max(self.lanes.len().div_ceil(4 * threads))
    }
}

impl<T: Task> VecEnv for TaskPool<T> {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn num_envs(&self) -> usize {
        self.lanes.len()
    }

    fn begin(&mut self, episodes: Episodes, observations: &mut [f32]) -> Result<(), EnvError> {
        let width = self.spec.observation_width();
        assert_len("observations", observations.len(), self.lanes.len() * width);

        self.episodes = Some(episodes);
        for (i, (lane, observation)) in
            self.lanes.iter_mut().zip(observations.chunks_exact_mut(width)).enumerate()
        {
            lane.retired = false;
            lane.start(&episodes, episodes.first_of(i), observation);
        }
        Ok(())
    }

    fn step(&mut self, actions: &[f32], batch: &mut StepBatch) -> Result<(), EnvError> {
        let num_envs = self.lanes.len();
        let rule = Rule {
            episodes: self.episodes.expect("a pool is reset before its first step"),
            max_episode_steps: self.spec.max_episode_steps,
            action_width: self.spec.action.width(),
            observation_width: self.spec.observation_width(),
        };
        assert_len("actions", actions.len(), num_envs * rule.action_width);
        batch.assert_fits(&self.spec, num_envs);
        check_actions(&self.spec.action, actions)?;

        let rows = self.rows_per_chunk();
        if rows >= num_envs {
            step_rows(
                &rule,
                &mut self.lanes,
                actions,
                &mut batch.observations,
                &mut batch.final_observations,
                &mut batch.rewards,
                &mut batch.phases,
            );
            return Ok(());
        }
        (
            self.lanes.par_chunks_mut(rows),
            actions.par_chunks(rows * rule.action_width),
            batch.observations.par_chunks_mut(rows * rule.observation_width),
            batch.final_observations.par_chunks_mut(rows * rule.observation_width),
            batch.rewards.par_chunks_mut(rows),
            batch.phases.par_chunks_mut(rows),
        )
            .into_par_iter()
            .with_max_len(1)
            .for_each(|(lanes, actions, observations, finals, rewards, phases)| {
                step_rows(&rule, lanes, actions, observations, finals, rewards, phases);
            });
        Ok(())
    }

    fn retire(&mut self, env: usize) {
        self.lanes[env].retired = true;
    }

    fn render(&mut self, env: usize) -> Result<Option<Frame>, EnvError> {
        Ok(self.lanes[env].task.render())
    }
}

/// What every lane of a pool obeys.
struct Rule {
    episodes: Episodes,
    max_episode_steps: u32,
    action_width: usize,
    observation_width: usize,
}

/// One environment of a pool: a task, and where it stands.
struct Lane<T> {
    task: T,
    /// Steps taken in this episode.
    steps: u32,
    /// Number of this episode, over all environments of the pool.
    episode: u64,
    /// Whether it stands still until episodes begin again.
    retired: bool,
}

impl<T: Task> Lane<T> {
    fn start(&mut self, episodes: &Episodes, episode: u64, observation: &mut [f32]) {
        self.steps = 0;
        self.episode = episode;
        self.task.reset(&mut episodes.rng(episode), observation);
    }

    fn step(
        &mut self,
        rule: &Rule,
        action: &[f32],
        observation: &mut [f32],
        final_observation: &mut [f32],
    ) -> Step {
        if self.retired {
            return Step { reward: 0.0, phase: Phase::Running };
        }
        let mut step = self.task.step(action, observation);
        self.steps += 1;
        if step.phase == Phase::Running && self.steps >= rule.max_episode_steps {
            step.phase = Phase::Truncated;
        }
        if step.phase != Phase::Running {
            final_observation.copy_from_slice(observation);
            self.start(&rule.episodes, self.episode + rule.episodes.stride, observation);
        }
        step
    }
}

fn step_rows<T: Task>(
    rule: &Rule,
    lanes: &mut [Lane<T>],
    actions: &[f32],
    observations: &mut [f32],
    final_observations: &mut [f32],
    rewards: &mut [f32],
    phases: &mut [Phase],
) {
    let rows = lanes
        .iter_mut()
        .zip(actions.chunks_exact(rule.action_width))
        .zip(observations.chunks_exact_mut(rule.observation_width))
        .zip(final_observations.chunks_exact_mut(rule.observation_width))
        .zip(rewards.iter_mut().zip(phases));
    for ((((lane, action), observation), final_observation), (reward, phase)) in rows {
        let step = lane.step(rule, action, observation, final_observation);
        *reward = step.reward;
        *phase = step.phase;
    }
}
