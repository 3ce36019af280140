//! Plays whole episodes, for tests and for the example that measures returns.

use eva_rl_envs::{ActionSpace, Controller, Kwargs, Phase, StepBatch, episode_rng, make, spec};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// The tasks whose reference scores are our own.
pub const MEASURED: [&str; 5] =
    ["CartPole-v1", "Pendulum-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Acrobot-v1"];

/// Uniformly random actions.
pub struct Random {
    space: ActionSpace,
    rng: ChaCha8Rng,
}

impl Random {
    /// Random play of one environment, drawn from `seed`.
    pub fn new(id: &str, kwargs: &Kwargs, seed: u64) -> Self {
        let space = spec(id, kwargs).expect("the id is native").action;
        Self { space, rng: episode_rng(seed, u64::MAX) }
    }
}

impl Controller for Random {
    fn act(&mut self, _observation: &[f32], action: &mut [f32]) {
        match &self.space {
            ActionSpace::Discrete { n, .. } => action[0] = self.rng.gen_range(0..*n) as f32,
            ActionSpace::MultiDiscrete { counts, .. } => {
                for (value, count) in action.iter_mut().zip(counts) {
                    *value = self.rng.gen_range(0..*count) as f32;
                }
            }
            ActionSpace::Box { low, high } => {
                for (value, (low, high)) in action.iter_mut().zip(low.iter().zip(high)) {
                    *value = self.rng.gen_range(*low..=*high);
                }
            }
        }
    }
}

/// One whole episode.
#[derive(Clone, Debug, PartialEq)]
pub struct Episode {
    /// The sum of its rewards.
    pub total: f64,
    /// How it ended.
    pub end: Phase,
    /// What it showed last.
    pub last: Vec<f32>,
}

/// The first `count` episodes of seed 0.
pub fn episodes(id: &str, kwargs: &Kwargs, controller: &mut dyn Controller, count: usize) -> Vec<Episode> {
    let mut pool = make(id, kwargs, count).expect("the id is native");
    let mut batch = StepBatch::new(pool.spec(), count);
    let (wide, high) = (pool.spec().observation_width(), pool.spec().action.width());
    let mut actions = vec![0.0; count * high];
    let mut totals = vec![0.0; count];
    let mut ended = vec![None; count];

    pool.reset(0, &mut batch.observations).expect("a native pool resets");
    while ended.iter().any(Option::is_none) {
        for (shown, action) in batch.observations.chunks_exact(wide).zip(actions.chunks_exact_mut(high)) {
            controller.act(shown, action);
        }
        pool.step(&actions, &mut batch).expect("the actions are in bounds");
        for env in (0..count).filter(|env| ended[*env].is_none()).collect::<Vec<_>>() {
            totals[env] += f64::from(batch.rewards[env]);
            if batch.phases[env] != Phase::Running {
                let last = batch.final_observations[env * wide..][..wide].to_vec();
                ended[env] = Some(Episode { total: totals[env], end: batch.phases[env], last });
            }
        }
    }
    ended.into_iter().flatten().collect()
}

/// Mean return of some episodes.
pub fn mean(episodes: &[Episode]) -> f64 {
    episodes.iter().map(|episode| episode.total).sum::<f64>() / episodes.len() as f64
}
