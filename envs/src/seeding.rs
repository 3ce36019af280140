//! Where an episode's randomness comes from: its seed and its number, and nothing else.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The generator of episode number `episode` of `seed`.
///
/// ChaCha turns any two keys into unrelated streams, so the pair is the key as it stands.
pub fn episode_rng(seed: u64, episode: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&episode.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}
