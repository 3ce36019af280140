//! Random numbers that need no saving: each use has its own generator, named by what it is for.
//!
//! A resumed run draws what the run without a stop would have drawn, because update 500 draws from
//! the generator of update 500.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What a generator is for; part of its seed.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// A new policy's weights and LoRA's A.
    Weights = 1,
    /// The order in which EVA sees windows.
    EvaWindows = 2,
    /// The windows of an update.
    UpdateWindows = 3,
    /// Dropout and the entropy's draws in an update.
    UpdateNoise = 4,
    /// The episodes of a round of exploration.
    Exploration = 5,
    /// The episodes of an evaluation.
    Evaluation = 6,
    /// An actor's noise in one episode.
    Acting = 7,
    /// The episodes of a collected dataset.
    Collection = 8,
    /// The resamples of a report.
    Bootstrap = 9,
    /// The critics' first weights.
    Critics = 10,
    /// The windows of a validation loss, and the draws in it.
    Validation = 11,
    /// The windows by whose residuals actions begin to spread.
    InitialStd = 12,
}

/// A 64-bit seed for the `index`-th use of `purpose` in a run with `seed`.
pub fn seed(seed: u64, purpose: Purpose, index: usize) -> u64 {
    // SplitMix64's finaliser over the three, each step a bijection.
    let mut mixed = seed;
    for word in [purpose as u64, index as u64] {
        mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_add(word);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
    }
    mixed
}

/// The generator of the `index`-th use of `purpose` in a run with `run_seed`.
pub fn generator(run_seed: u64, purpose: Purpose, index: usize) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed(run_seed, purpose, index))
}

/// Seeds torch's generator likewise.
pub fn seed_torch(run_seed: u64, purpose: Purpose, index: usize) {
    tch::manual_seed(seed(run_seed, purpose, index) as i64);
}
