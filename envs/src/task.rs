//! The seam of native environments: physics and rewards, and nothing else.

use rand::RngCore;

use crate::spec::{EnvSpec, Phase};

/// What one step brought beside the observation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Reward of the step.
    pub reward: f32,
    /// Where the episode stands; a native task never truncates, its pool does.
    pub phase: Phase,
}

/// One environment. It writes into the caller's row, does no I/O and cannot fail.
///
/// Actions were checked before they come here. A discrete action is its index in a row of one.
pub trait Task: Send {
    /// The environment's contract.
    fn spec(&self) -> &EnvSpec;

    /// Starts an episode and writes its first observation.
    fn reset(&mut self, rng: &mut dyn RngCore, observation: &mut [f32]);

    /// Takes one step and writes the next observation.
    fn step(&mut self, action: &[f32], observation: &mut [f32]) -> Step;
}

/// A scripted way of acting in one environment.
pub trait Controller: Send {
    /// Writes the action for an observation.
    fn act(&mut self, observation: &[f32], action: &mut [f32]);
}
