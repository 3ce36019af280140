//! The seam of rollouts: a batch of environments that step together.

use crate::error::EnvError;
use crate::spec::{ActionSpace, EnvSpec, Phase};

/// What a step of the whole batch brought, in one buffer each; reused from step to step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepBatch {
    /// `[N, S]`: what to act on next; a new episode's first where the last one has ended.
    pub observations: Vec<f32>,
    /// `[N, S]`: an ended episode's last observation; where none ended, unspecified.
    pub final_observations: Vec<f32>,
    /// `[N]`.
    pub rewards: Vec<f32>,
    /// `[N]`: where each episode stood after the step.
    pub phases: Vec<Phase>,
}

impl StepBatch {
    /// Buffers for `num_envs` environments of this kind.
    pub fn new(spec: &EnvSpec, num_envs: usize) -> Self {
        let width = num_envs * spec.observation_width();
        Self {
            observations: vec![0.0; width],
            final_observations: vec![0.0; width],
            rewards: vec![0.0; num_envs],
            phases: vec![Phase::Running; num_envs],
        }
    }
}

/// N environments that step together and reset themselves.
///
/// Environment i's k-th episode (k from 0) is drawn from the seed and its number i + N·k alone, so
/// that episodes depend neither on threads nor on N. Buffers of the wrong length are a bug and panic.
pub trait VecEnv: Send {
    /// What each of them is.
    fn spec(&self) -> &EnvSpec;

    /// N.
    fn num_envs(&self) -> usize;

    /// Starts episode i in environment i and writes the observations `[N, S]`.
    fn reset(&mut self, seed: u64, observations: &mut [f32]) -> Result<(), EnvError>;

    /// Steps all with `actions` `[N, A]`; an environment whose episode ends starts its next at once.
    ///
    /// An action outside the space is an error, and then nothing has moved.
    fn step(&mut self, actions: &[f32], batch: &mut StepBatch) -> Result<(), EnvError>;
}

/// Refuses actions `[N, A]` that lie outside the space; rounding at a bound is forgiven.
pub fn check_actions(space: &ActionSpace, actions: &[f32]) -> Result<(), EnvError> {
    match space {
        ActionSpace::Discrete { n } => {
            let wrong = actions
                .iter()
                .position(|action| !(action.fract() == 0.0 && (0.0..*n as f32).contains(action)));
            wrong.map_or(Ok(()), |env| Err(EnvError::DiscreteAction { env, found: actions[env], count: *n }))
        }
        ActionSpace::Box { low, high } => {
            for (env, row) in actions.chunks(low.len()).enumerate() {
                for (dimension, (&found, (&low, &high))) in row.iter().zip(low.iter().zip(high)).enumerate() {
                    let slack = 1e-5 * (high - low);
                    if !(low - slack..=high + slack).contains(&found) {
                        return Err(EnvError::BoxAction { env, dimension, found, low, high });
                    }
                }
            }
            Ok(())
        }
    }
}
