//! A batch that is two, so that a rollout can play each on a thread of its own.

use crate::core::error::EnvError;
use crate::core::seeding::Episodes;
use crate::core::spec::EnvSpec;
use crate::core::vec_env::assert_len;
use crate::core::vec_env::{StepBatch, VecEnv};
use crate::core::worker_failure::Incident;
use crate::render::Frame;

/// Two batches of the same environment as one.
pub struct Halves {
    halves: [Box<dyn VecEnv>; 2],
    batches: [StepBatch; 2],
}

impl Halves {
    /// The rows of `first`, then those of `second`.
    pub fn new(first: Box<dyn VecEnv>, mut second: Box<dyn VecEnv>) -> Self {
        second.number_workers_from(first.workers());
        let batches = [&first, &second].map(|half| StepBatch::new(half.spec(), half.num_envs()));
        Self { halves: [first, second], batches }
    }
}

impl VecEnv for Halves {
    fn spec(&self) -> &EnvSpec {
        self.halves[0].spec()
    }

    fn num_envs(&self) -> usize {
        self.halves.iter().map(|half| half.num_envs()).sum()
    }

    fn begin(&mut self, episodes: Episodes, observations: &mut [f32]) -> Result<(), EnvError> {
        let middle = self.halves[0].num_envs();
        let width = self.spec().observation_width();
        assert_len("observations", observations.len(), self.num_envs() * width);
        let later = Episodes { first: episodes.first_of(middle), ..episodes };
        let (above, below) = observations.split_at_mut(middle * width);
        let [first, second] = &mut self.halves;
        let (first, second) = rayon::join(|| first.begin(episodes, above), || second.begin(later, below));
        first.and(second)
    }

    fn step(&mut self, actions: &[f32], batch: &mut StepBatch) -> Result<(), EnvError> {
        let (num_envs, middle) = (self.num_envs(), self.halves[0].num_envs());
        let width = self.spec().action.width();
        assert_len("actions", actions.len(), num_envs * width);
        batch.assert_fits(self.spec(), num_envs);
        let (above, below) = actions.split_at(middle * width);
        let ([first, second], [rows, later_rows]) = (&mut self.halves, &mut self.batches);
        let (first, second) = rayon::join(|| first.step(above, rows), || second.step(below, later_rows));
        first.and(second)?;
        let [rows, later_rows] = &self.batches;
        join(&mut batch.observations, &rows.observations, &later_rows.observations);
        join(&mut batch.final_observations, &rows.final_observations, &later_rows.final_observations);
        join(&mut batch.rewards, &rows.rewards, &later_rows.rewards);
        join(&mut batch.infos, &rows.infos, &later_rows.infos);
        join(&mut batch.phases, &rows.phases, &later_rows.phases);
        Ok(())
    }

    fn retire(&mut self, env: usize) {
        let [first, second] = &mut self.halves;
        match env.checked_sub(first.num_envs()) {
            None => first.retire(env),
            Some(env) => second.retire(env),
        }
    }

    fn pixels(&self, env: usize) -> &[u8] {
        let [first, second] = &self.halves;
        match env.checked_sub(first.num_envs()) {
            None => first.pixels(env),
            Some(env) => second.pixels(env),
        }
    }

    fn final_pixels(&self, env: usize) -> &[u8] {
        let [first, second] = &self.halves;
        match env.checked_sub(first.num_envs()) {
            None => first.final_pixels(env),
            Some(env) => second.final_pixels(env),
        }
    }

    fn expert_action(&self, env: usize) -> &[f32] {
        let [first, second] = &self.halves;
        match env.checked_sub(first.num_envs()) {
            None => first.expert_action(env),
            Some(env) => second.expert_action(env),
        }
    }

    fn render(&mut self, env: usize) -> Result<Option<Frame>, EnvError> {
        let [first, second] = &mut self.halves;
        match env.checked_sub(first.num_envs()) {
            None => first.render(env),
            Some(env) => second.render(env),
        }
    }

    fn workers(&self) -> usize {
        self.halves.iter().map(|half| half.workers()).sum()
    }

    fn incidents(&mut self) -> Vec<Incident> {
        self.halves.iter_mut().flat_map(|half| half.incidents()).collect()
    }

    fn halves(&mut self) -> Option<[&mut dyn VecEnv; 2]> {
        let [first, second] = &mut self.halves;
        Some([first.as_mut(), second.as_mut()])
    }
}

fn join<T: Copy>(whole: &mut [T], first: &[T], second: &[T]) {
    whole[..first.len()].copy_from_slice(first);
    whole[first.len()..].copy_from_slice(second);
}
