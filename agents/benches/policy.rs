//! Forward passes, EVA's solver and updates of the 3 × 128 policy of the design's measured peers.

#![allow(missing_docs)] // criterion's macro makes an undocumented function

use criterion::{Criterion, criterion_group, criterion_main};
use eva_rl_agents::adapter::{self, AdapterSet, Rank, Scaling};
use eva_rl_agents::loss::behaviour_cloning;
use eva_rl_agents::model::{ForwardContext, Inputs, Policy, PolicyConfig, TransformerPolicy};
use eva_rl_agents::optimiser::{Optimiser, Settings};
use eva_rl_agents::pca::{Covariance, End, IncrementalPca, NystromSketch, Solver};
use eva_rl_agents::tensor::Rows;
use tch::{Device, Kind, Tensor};

const BATCH: i64 = 64;
const STEPS: i64 = 20;

fn inputs(config: &PolicyConfig) -> Inputs {
    let float = (Kind::Float, Device::Cpu);
    Inputs {
        states: Tensor::randn([BATCH, STEPS, config.state_dim], float),
        words: None,
        images: None,
        previous: None,
        actions: Tensor::rand([BATCH, STEPS, config.act_dim], float) * 2.0 - 1.0,
        rewards: None,
        returns_to_go: Tensor::randn([BATCH, STEPS, 1], float),
        timesteps: Tensor::arange(STEPS, (Kind::Int64, Device::Cpu)).repeat([BATCH, 1]),
        mask: Tensor::ones([BATCH, STEPS], (Kind::Bool, Device::Cpu)),
    }
}

fn policy(criterion: &mut Criterion) {
    let config =
        PolicyConfig { state_dim: 11, act_dim: 3, n_head: 4, max_ep_len: 1000, ..PolicyConfig::default() };
    let inputs = inputs(&config);
    let policy = TransformerPolicy::new(config, Device::Cpu);
    criterion.bench_function("forward of a whole window", |bencher| {
        let mut context = ForwardContext::bare();
        bencher.iter(|| tch::no_grad(|| policy.forward(&mut context, &inputs)));
    });
    criterion.bench_function("LoRA update", |bencher| {
        let rank = Rank::try_from(8).expect("8 is no zero");
        let scaling = Scaling { alpha: 1.0, rank_stabilised: false };
        let mut adapters = AdapterSet::default();
        for site in policy.sites() {
            let lora = adapter::lora(site.input, site.output, rank, scaling, Device::Cpu);
            adapters.sites.insert(site.module.clone(), lora);
        }
        let mut optimiser = Optimiser::new(adapters.parameters(), Settings::default());
        bencher.iter(|| {
            let mut context = ForwardContext::with_adapters(&adapters).train(true);
            let loss = behaviour_cloning(&policy, &mut context, &inputs);
            optimiser.zero_grad();
            loss.backward();
            optimiser.step(1e-4);
        });
    });
    let policy = Policy::Transformer(policy);
    criterion.bench_function("forward for acting", |bencher| {
        bencher.iter(|| tch::no_grad(|| policy.act(&inputs)));
    });
}

fn solver(criterion: &mut Criterion) {
    for width in [128, 512] {
        let rows = Rows::of(&Tensor::randn([3 * BATCH * STEPS, width], (Kind::Float, Device::Cpu)));
        let solvers: [(&str, Box<dyn Solver>); 3] = [
            ("gram", Box::new(Covariance::new(16, width, true, End::Leading))),
            ("sketch", Box::new(NystromSketch::new(16, width, true))),
            ("incremental", Box::new(IncrementalPca::new(16, width, true, Device::Cpu))),
        ];
        for (name, mut solver) in solvers {
            criterion.bench_function(&format!("{name}, {width} wide"), |bencher| {
                bencher.iter(|| solver.update(&rows).expect("normal rows are finite"));
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = policy, solver
}
criterion_main!(benches);
