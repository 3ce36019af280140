//! Where an episode's randomness comes from: its seed and its number, and nothing else.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Which episodes a batch of environments plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Episodes {
    /// What an episode draws depends on this and on its number.
    pub seed: u64,
    /// Number of the first environment's first episode.
    pub first: u64,
    /// Environment i's first episode is number `first + spacing · i`.
    pub spacing: u64,
    /// An environment's next episode is so many numbers further.
    pub stride: u64,
    /// So many episodes in a row draw the same, which makes a group of one start; 1 where none do.
    pub group_size: u64,
}

impl Episodes {
    /// All episodes of a seed, by a batch of `num_envs` environments.
    pub fn all(seed: u64, num_envs: usize) -> Self {
        Self { seed, first: 0, spacing: 1, stride: num_envs as u64, group_size: 1 }
    }

    /// The number of an environment's first episode.
    pub fn first_of(&self, env: usize) -> u64 {
        self.first + self.spacing * env as u64
    }

    /// The generator of episode number `episode`.
    pub(crate) fn rng(&self, episode: u64) -> ChaCha8Rng {
        episode_rng(self.seed, episode / self.group_size)
    }
}

/// The generator of episode number `episode` of `seed`.
///
/// ChaCha turns any two keys into unrelated streams, so the pair is the key as it stands.
pub fn episode_rng(seed: u64, episode: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&episode.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}
