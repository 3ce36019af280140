//! One native environment: physics and rewards. Wrapping, limits and seeding live elsewhere.

use rand::RngCore;

use crate::core::spec::{EnvSpec, Phase};
use crate::render::Frame;

/// A task. It writes into the caller's row and cannot fail; misuse panics with a sentence.
pub trait Task: Send {
    /// The environment's contract; its step limit is kept by whoever runs the task.
    fn spec(&self) -> &EnvSpec;

    /// Starts an episode in a state drawn from `rng`.
    fn reset(&mut self, rng: &mut dyn RngCore, observation: &mut [f32]);

    /// Acts once. A discrete action is its index, as `f32`, in a row of one.
    fn step(&mut self, action: &[f32], observation: &mut [f32]) -> Step;

    /// A picture of the state, from a task that can draw itself.
    fn render(&self) -> Option<Frame> {
        None
    }
}

impl Task for Box<dyn Task> {
    fn spec(&self) -> &EnvSpec {
        (**self).spec()
    }

    fn reset(&mut self, rng: &mut dyn RngCore, observation: &mut [f32]) {
        (**self).reset(rng, observation);
    }

    fn step(&mut self, action: &[f32], observation: &mut [f32]) -> Step {
        (**self).step(action, observation)
    }

    fn render(&self) -> Option<Frame> {
        (**self).render()
    }
}

/// A task whose state is a few numbers, so that it can be put anywhere.
pub trait NativeTask: Task {
    /// Puts the task into a state of Gymnasium's, as `env.unwrapped.state = …` does.
    fn set_state(&mut self, state: &[f64], observation: &mut [f32]);

    /// Between which values each number of a start is drawn, of a task whose starts Gymnasium lets its
    /// user bound. `bound` answers with what the user wants of a bound, by Gymnasium's name for it, or
    /// with the default that it is given.
    fn start_ranges(&self, _bound: &dyn Fn(&str, f64) -> f64) -> Option<Vec<(f64, f64)>> {
        None
    }
}

/// What one step of a task gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The reward that the step earned.
    pub reward: f32,
    /// Native tasks never truncate by themselves; an environment of a user may.
    pub phase: Phase,
}

impl Step {
    /// A step that ends the episode if `ends`.
    pub(crate) fn new(reward: f32, ends: bool) -> Self {
        let phase = if ends { Phase::Terminated } else { Phase::Running };
        Self { reward, phase }
    }
}
