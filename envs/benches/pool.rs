//! Steps per second of pools with random actions already drawn.

#![allow(missing_docs)] // criterion's macro makes an undocumented function

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use eva_rl_envs::{ActionSpace, Kwargs, StepBatch, make};

fn pools(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool");
    for id in ["CartPole-v1", "Pendulum-v1", "Acrobot-v1"] {
        for count in [64, 1024] {
            let mut pool = make(id, &Kwargs::new(), count).expect("a known environment");
            let mut batch = StepBatch::new(pool.spec(), count);
            let actions: Vec<f32> = match &pool.spec().action {
                ActionSpace::Discrete { n } => (0..count).map(|i| (i % n) as f32).collect(),
                ActionSpace::Box { .. } => (0..count).map(|i| (i % 5) as f32 - 2.0).collect(),
            };
            pool.reset(0, &mut batch.observations).expect("a pool can be reset");
            group.throughput(Throughput::Elements(count as u64));
            group.bench_function(BenchmarkId::new(id, count), |bencher| {
                bencher.iter(|| pool.step(&actions, &mut batch).expect("the actions lie in the space"));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, pools);
criterion_main!(benches);
