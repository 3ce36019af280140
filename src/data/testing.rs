//! Datasets and episodes for tests.

use eva_rl_envs::{ActionSpace, Phase};

use super::images::Images;
use super::trajectory::{Dataset, Trajectory};

/// An episode that ended by its time limit, one step for each reward.
pub fn trajectory(observations: Vec<f32>, actions: Vec<f32>, rewards: &[f32]) -> Trajectory {
    Trajectory {
        observations: observations.into(),
        images: Images::default(),
        actions: actions.into(),
        rewards: rewards.to_vec(),
        infos: Vec::new(),
        end: Phase::Truncated,
        succeeded: None,
    }
}

/// Episodes of nowhere in particular.
pub fn dataset(observation_width: usize, action: ActionSpace, trajectories: Vec<Trajectory>) -> Dataset {
    Dataset {
        observation_width,
        space: None,
        image: None,
        action,
        env: None,
        algorithm: String::new(),
        reference: None,
        skipped: 0,
        clipped: 0,
        trajectories,
    }
}
