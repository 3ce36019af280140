//! Episodes of a case's only environment, acted step by step.

use eva_rl_envs::Phase;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::data::{Frames, Images, Trajectory};
use crate::rollout::ActiveEpisode;

/// An episode that has shown nothing yet; of images of this shape, if it shows such.
pub fn new_episode(number: usize, image: Option<[usize; 3]>) -> ActiveEpisode {
    ActiveEpisode {
        env: 0,
        number,
        trajectory: Trajectory {
            observations: Vec::new().into(),
            images: image.map_or_else(Images::default, |shape| Frames::new(shape).into()),
            actions: Vec::new().into(),
            rewards: Vec::new(),
            end: Phase::Running,
            infos: Vec::new(),
            succeeded: None,
        },
        earned: vec![0.0],
        expert_action: Vec::new(),
        noise: ChaCha8Rng::seed_from_u64(0), // greedy actions draw nothing
    }
}
