//! Throughput of the pools, in environment steps a second. Actions are random and drawn beforehand,
//! so that only the environments are measured; episodes end and start again as in a rollout.

use criterion::{Criterion, Throughput};
use eva_rl_envs::{ActionSpace, Kwargs, StepBatch, episode_rng, make};
use rand::Rng;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("pool");
    for id in ["CartPole-v1", "Pendulum-v1"] {
        for num_envs in [64, 1024] {
            let mut pool = make(id, &Kwargs::new(), num_envs).expect("the id is native");
            let mut batch = StepBatch::new(pool.spec(), num_envs);
            let draws = random_actions(&pool.spec().action, num_envs);
            let mut draws = draws.iter().cycle();
            pool.reset(0, &mut batch.observations).expect("a native pool resets");

            group.throughput(Throughput::Elements(num_envs as u64));
            group.bench_function(format!("{id}/{num_envs}"), |bencher| {
                bencher.iter(|| {
                    let actions = draws.next().expect("a cycle has no end");
                    pool.step(actions, &mut batch).expect("the actions are in bounds");
                });
            });
        }
    }
    group.finish();
    criterion.final_summary();
}

/// Enough batches of actions that an episode never sees one twice in a row.
fn random_actions(space: &ActionSpace, num_envs: usize) -> Vec<Vec<f32>> {
    let mut rng = episode_rng(0, 0);
    let mut draw = || match space {
        ActionSpace::Discrete { n, .. } => rng.gen_range(0..*n) as f32,
        ActionSpace::MultiDiscrete { .. } => unreachable!("no such task is measured"),
        ActionSpace::Box { low, high } => rng.gen_range(low[0]..=high[0]),
    };
    (0..64).map(|_| (0..num_envs).map(|_| draw()).collect()).collect()
}
