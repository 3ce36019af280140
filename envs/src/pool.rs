//! Tasks stepped in parallel on rayon's threads, straight into the caller's rows.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::error::EnvError;
use crate::spec::{EnvSpec, Phase};
use crate::task::Task;
use crate::vec_env::{StepBatch, VecEnv, check_actions};

/// A pool of one kind of task.
pub struct TaskPool<T> {
    spec: EnvSpec,
    seed: u64,
    slots: Vec<Slot<T>>,
    /// Tasks that one thread takes at a time; fewer tasks than this run on the caller's thread.
    chunk: usize,
}

struct Slot<T> {
    task: T,
    steps: u32,
    /// Number of the episode that is being played.
    episode: usize,
}

impl<T: Task> TaskPool<T> {
    /// A pool of tasks of one kind, `chunk` of which are worth handing to a thread at a time.
    pub fn new(tasks: Vec<T>, chunk: usize) -> Result<Self, EnvError> {
        let Some(first) = tasks.first() else {
            return Err(EnvError::EmptyPool { id: std::any::type_name::<T>().to_owned() });
        };
        let spec = first.spec().clone();
        let slots = tasks.into_iter().map(|task| Slot { task, steps: 0, episode: 0 }).collect();
        Ok(Self { spec, seed: 0, slots, chunk: chunk.max(1) })
    }
}

impl<T: Task> VecEnv for TaskPool<T> {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn num_envs(&self) -> usize {
        self.slots.len()
    }

    fn reset(&mut self, seed: u64, observations: &mut [f32]) -> Result<(), EnvError> {
        let width = self.spec.observation_width();
        assert_eq!(observations.len(), self.slots.len() * width, "observations are [N, S]");
        self.seed = seed;
        for (env, (slot, row)) in self.slots.iter_mut().zip(observations.chunks_mut(width)).enumerate() {
            slot.start(seed, env, row);
        }
        Ok(())
    }

    fn step(&mut self, actions: &[f32], batch: &mut StepBatch) -> Result<(), EnvError> {
        let (count, width) = (self.slots.len(), self.spec.observation_width());
        let action_width = self.spec.action.width();
        assert_eq!(actions.len(), count * action_width, "actions are [N, A]");
        assert_eq!(batch.observations.len(), count * width, "observations are [N, S]");
        assert_eq!(batch.phases.len(), count, "phases are [N]");
        check_actions(&self.spec.action, actions)?;

        let (seed, limit, chunk) = (self.seed, self.spec.max_episode_steps, self.chunk);
        let step_rows = |(slots, (actions, (observations, (finals, (rewards, phases))))): Rows<'_, T>| {
            for (row, slot) in slots.iter_mut().enumerate() {
                let observation = &mut observations[row * width..][..width];
                let step = slot.task.step(&actions[row * action_width..][..action_width], observation);
                slot.steps += 1;
                let cut = step.phase == Phase::Running && slot.steps >= limit;
                rewards[row] = step.reward;
                phases[row] = if cut { Phase::Truncated } else { step.phase };
                if phases[row] != Phase::Running {
                    finals[row * width..][..width].copy_from_slice(observation);
                    slot.start(seed, slot.episode + count, observation);
                }
            }
        };
        let StepBatch { observations, final_observations, rewards, phases } = batch;
        if count <= chunk {
            step_rows((&mut self.slots, (actions, (observations, (final_observations, (rewards, phases))))));
            return Ok(());
        }
        let rewards = rewards.par_chunks_mut(chunk).zip(phases.par_chunks_mut(chunk));
        let finals = final_observations.par_chunks_mut(chunk * width).zip(rewards);
        let rows = actions
            .par_chunks(chunk * action_width)
            .zip(observations.par_chunks_mut(chunk * width).zip(finals));
        self.slots.par_chunks_mut(chunk).zip(rows).for_each(step_rows);
        Ok(())
    }
}

/// One thread's share of the slots and of every buffer.
type Rows<'a, T> =
    (&'a mut [Slot<T>], (&'a [f32], (&'a mut [f32], (&'a mut [f32], (&'a mut [f32], &'a mut [Phase])))));

impl<T: Task> Slot<T> {
    /// Starts an episode, which its number and the pool's seed determine.
    fn start(&mut self, seed: u64, episode: usize, observation: &mut [f32]) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(episode as u64);
        self.task.reset(&mut rng, observation);
        self.steps = 0;
        self.episode = episode;
    }
}
