//! A batch of environments that step together, whatever runs them.

use crate::core::error::EnvError;
use crate::core::seeding::Episodes;
use crate::core::spec::{ActionSpace, EnvSpec, Phase};
use crate::core::worker_failure::Incident;
use crate::render::Frame;

/// A batch of N environments that start their next episode in the step that ends the last.
///
/// Fallible, because a worker process can die. A buffer of the wrong length, or a step before the
/// first reset, is a bug of the caller and panics with a sentence.
pub trait VecEnv: Send {
    /// The contract that all N share.
    fn spec(&self) -> &EnvSpec;

    /// N.
    fn num_envs(&self) -> usize;

    /// Starts an episode everywhere, and writes N rows of observations.
    ///
    /// An episode's start depends on its number and the seed alone, not on N, on threads or on
    /// processes. EnvPool takes no seed per episode: there an environment depends on the seed and on its
    /// first episode's number, its k-th episode on those before it too.
    fn begin(&mut self, episodes: Episodes, observations: &mut [f32]) -> Result<(), EnvError>;

    /// The same for all episodes of a seed: environment i's k-th one is number `i + N·k`.
    fn reset(&mut self, seed: u64, observations: &mut [f32]) -> Result<(), EnvError> {
        self.begin(Episodes::all(seed, self.num_envs()), observations)
    }

    /// Acts once everywhere, with N rows of actions; a wrong action moves nothing.
    ///
    /// Where an episode ends, the row of `observations` is the first of the next episode, and the
    /// row of `final_observations` the last of the ended one.
    ///
    /// Where a worker process failed, the phase is `Lost`: the step has moved nothing, the same episode
    /// is reset, and `observations` shows its start (EnvPool's environments go on with episodes that
    /// they have not played). A batch whose worker fails again and again gives an error.
    fn step(&mut self, actions: &[f32], batch: &mut StepBatch) -> Result<(), EnvError>;

    /// Leaves an environment as it stands until episodes begin again, because nobody looks at it any more: steps pass it
    /// over, and its row earns nothing and is `Running`.
    fn retire(&mut self, env: usize);

    /// The image of what one environment shows now, channels first; empty where the contract has none.
    fn pixels(&self, _env: usize) -> &[u8] {
        &[]
    }

    /// The image of the last observation of an episode that ended in the last step, as
    /// [`StepBatch::final_observations`] holds its numbers.
    fn final_pixels(&self, _env: usize) -> &[u8] {
        &[]
    }

    /// What an expert of the environment's own would do now, of which [`BridgeSettings::bot`](crate::BridgeSettings) asks;
    /// empty where there is none.
    fn expert_action(&self, _env: usize) -> &[f32] {
        &[]
    }

    /// A picture of one environment as it stands, from a batch that can draw. After an episode's
    /// end that is the start of the next.
    fn render(&mut self, _env: usize) -> Result<Option<Frame>, EnvError> {
        Ok(None)
    }

    /// The two batches that this one is made of, if it is: the rows of the first, then those of the second.
    fn halves(&mut self) -> Option<[&mut dyn VecEnv; 2]> {
        None
    }

    /// Worker processes that host its rows.
    fn workers(&self) -> usize {
        0
    }

    /// Says how many workers a larger batch has before those of this one, for messages.
    fn number_workers_from(&mut self, _first: usize) {}

    /// The failures of workers since this was last asked.
    fn incidents(&mut self) -> Vec<Incident> {
        Vec::new()
    }
}

/// What a step gave, one row per environment.
#[derive(Clone, Debug, PartialEq)]
pub struct StepBatch {
    /// What each environment shows now.
    pub observations: Vec<f32>,
    /// Where an episode ended, its last observation; elsewhere whatever stood there before.
    pub final_observations: Vec<f32>,
    /// What the step earned.
    pub rewards: Vec<f32>,
    /// The numbers that [`EnvSpec::infos`] names, of the same step.
    pub infos: Vec<f32>,
    /// How the episode that was stepped stands. A task that ends in the very step that reaches its
    /// limit is `Terminated` (Gymnasium sets both its flags there).
    pub phases: Vec<Phase>,
}

impl StepBatch {
    /// Rows for `num_envs` environments.
    pub fn new(spec: &EnvSpec, num_envs: usize) -> Self {
        let width = spec.observation_width();
        Self {
            observations: vec![0.0; num_envs * width],
            final_observations: vec![0.0; num_envs * width],
            rewards: vec![0.0; num_envs],
            infos: vec![0.0; num_envs * spec.infos.len()],
            phases: vec![Phase::Running; num_envs],
        }
    }

    /// Panics unless every buffer has `num_envs` rows.
    pub fn assert_fits(&self, spec: &EnvSpec, num_envs: usize) {
        let width = spec.observation_width();
        assert_len("observations", self.observations.len(), num_envs * width);
        assert_len("final observations", self.final_observations.len(), num_envs * width);
        assert_len("rewards", self.rewards.len(), num_envs);
        assert_len("infos", self.infos.len(), num_envs * spec.infos.len());
        assert_len("phases", self.phases.len(), num_envs);
    }
}

/// Panics unless the buffer called `what` has the length that its batch needs.
#[track_caller]
pub(crate) fn assert_len(what: &str, found: usize, wanted: usize) {
    assert_eq!(found, wanted, "a buffer of {what} has the wrong length for its batch");
}

/// Refuses the first of some rows of actions that its space does not hold.
///
/// A box is widened by 1e-5 of its range, which rounding may need.
pub fn check_actions(space: &ActionSpace, actions: &[f32]) -> Result<(), EnvError> {
    // Of the numbers below 2^24, the whole ones are those that a cast leaves as they are.
    let is_index =
        |value: f32, n: usize| 0.0 <= value && value <= (n - 1) as f32 && (value as i32) as f32 == value;
    match space {
        ActionSpace::Discrete { n, .. } => match actions.iter().position(|value| !is_index(*value, *n)) {
            None => Ok(()),
            Some(env) => Err(EnvError::DiscreteAction { env, value: actions[env], actions: *n }),
        },
        ActionSpace::MultiDiscrete { counts, .. } => {
            for (env, action) in actions.chunks_exact(counts.len()).enumerate() {
                for (dimension, (value, n)) in action.iter().zip(counts).enumerate() {
                    if !is_index(*value, *n) {
                        let (value, actions) = (*value, *n);
                        return Err(EnvError::MultiDiscreteAction { env, dimension, value, actions });
                    }
                }
            }
            Ok(())
        }
        ActionSpace::Box { low, high } => {
            for (env, action) in actions.chunks_exact(low.len()).enumerate() {
                for (dimension, value) in action.iter().copied().enumerate() {
                    let (low, high) = (low[dimension], high[dimension]);
                    let slack = 1e-5 * (high - low);
                    if !(low - slack <= value && value <= high + slack) {
                        return Err(EnvError::BoxAction { env, dimension, value, low, high });
                    }
                }
            }
            Ok(())
        }
    }
}
