//! `bench`: throughput on this machine, the stages apart.

use std::time::Instant;

use eva_rl_agents::adapter::{self, AdapterSet, Rank, Scaling};
use eva_rl_agents::eva::{Eva, Settings};
use eva_rl_agents::model::{Conditioning, DecisionTransformer, Inputs, Policy};
use eva_rl_agents::objective;
use eva_rl_agents::optimiser::{AdamW, AdamWSettings};
use eva_rl_agents::pass::{NoTap, Pass};
use eva_rl_envs::{ActionSpace, StepBatch, VecEnv};
use rand::Rng;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::{print, print_json};
use crate::agent;
use crate::cli::{BenchArgs, BenchEnvArgs, BenchForwardArgs, BenchPolicyArgs, BenchWhat};
use crate::data::Replay;
use crate::failure::OrInput;
use crate::rng::{self, Purpose};
use crate::rollout::{self, Actor, Choice, Live, PolicyActor, RandomActor};

/// Windows of a batch in `bench eva` and `bench update`.
const BATCH: usize = 64;

/// Scaling of the adapters, which costs the same whatever it is.
const SCALING: Scaling = Scaling { alpha: 1.0, rank_stabilised: false };

/// Runs `bench`.
pub fn run(args: BenchArgs) -> anyhow::Result<()> {
    let (found, as_json) = match args.what {
        BenchWhat::Env(args) => (env(&args)?, args.json),
        BenchWhat::Forward(args) => (forward(&args)?, args.json),
        BenchWhat::Rollout(args) => (rollout_bench(&args)?, args.json),
        BenchWhat::Eva(args) => (eva(&args)?, args.json),
        BenchWhat::Update(args) => (update(&args)?, args.json),
    };
    if as_json {
        return print_json(&found);
    }
    let Value::Object(figures) = found else { return print_json(&found) };
    for (name, figure) in figures {
        print(&format!("{name}: {figure}"))?;
    }
    Ok(())
}

/// Environments alone; the actions were drawn before.
fn env(args: &BenchEnvArgs) -> anyhow::Result<Value> {
    let count = args.env.num_envs as usize;
    let mut env = eva_rl_envs::make(&args.env.id, &args.env.kwargs(), count).or_input()?;
    let space = env.spec().action.clone();
    let mut draw = rng::generator(0, Purpose::Acting, 0);
    let mut action = || -> Vec<f32> {
        match &space {
            ActionSpace::Discrete { n } => (0..count).map(|_| draw.gen_range(0..*n) as f32).collect(),
            ActionSpace::Box { low, high } => {
                let one = |_| {
                    low.iter().zip(high).map(|(low, high)| draw.gen_range(*low..=*high)).collect::<Vec<_>>()
                };
                (0..count).flat_map(one).collect()
            }
        }
    };
    let actions: Vec<Vec<f32>> = (0..16).map(|_| action()).collect();
    let mut batch = StepBatch::new(env.spec(), count);
    env.reset(0, &mut batch.observations)?;
    let (mut steps, begun) = (0, Instant::now());
    while begun.elapsed().as_secs_f64() < args.seconds {
        for actions in &actions {
            env.step(actions, &mut batch)?;
            steps += count;
        }
    }
    let rate = steps as f64 / begun.elapsed().as_secs_f64();
    Ok(json!({ "env": args.env.id, "num_envs": count, "steps": steps, "steps_per_sec": rate }))
}

/// Whole forward passes, every prediction of every step, as transformers' model makes them.
fn forward(args: &BenchForwardArgs) -> anyhow::Result<Value> {
    let policy = agent::read_transformer(&args.policy, None, Device::Cpu)?;
    let config = policy.config();
    let (batch, steps) = (i64::from(args.batch_size), i64::from(args.steps));
    let normal = |width| Tensor::randn([batch, steps, width], (Kind::Float, Device::Cpu));
    let inputs = Inputs {
        states: normal(config.state_dim),
        actions: normal(config.act_dim),
        rewards: Some(normal(1)),
        returns_to_go: normal(1),
        timesteps: Tensor::arange(steps, (Kind::Int64, Device::Cpu)).repeat([batch, 1]),
        mask: Tensor::ones([batch, steps], (Kind::Bool, Device::Cpu)),
    };
    let no_adapters = AdapterSet::default();
    let mut secs = Vec::new();
    let begun = Instant::now();
    while begun.elapsed().as_secs_f64() < args.seconds || secs.len() < 3 {
        let mut pass = Pass { adapters: &no_adapters, tap: &mut NoTap, train: false };
        let one = Instant::now();
        tch::no_grad(|| policy.forward(&mut pass, &inputs));
        secs.push(one.elapsed().as_secs_f64());
    }
    secs.sort_by(f64::total_cmp);
    Ok(json!({
        "batch_size": batch,
        "steps": steps,
        "threads": tch::get_num_threads(),
        "forwards": secs.len(),
        "secs_per_forward": secs[secs.len() / 2],
        "least_secs": secs[0],
    }))
}

/// What the benchmarks of a policy need.
struct Subject {
    policy: DecisionTransformer,
    conditioning: Conditioning,
    env: Box<dyn VecEnv>,
}

fn subject(args: &BenchPolicyArgs) -> anyhow::Result<Subject> {
    let env = eva_rl_envs::make(&args.env.id, &args.env.kwargs(), args.env.num_envs as usize).or_input()?;
    let policy = agent::read_transformer(&args.policy, args.statistics.file(), Device::Cpu)?;
    let conditioning = agent::conditioning(policy.config(), policy.device(), &args.policy)?;
    let whose = format!("`{}`", args.env.id);
    agent::check_spaces(policy.config(), env.spec().observation_width(), &env.spec().action, &whose)?;
    Ok(Subject { policy, conditioning, env })
}

/// Times another actor.
struct TimedActor<'a> {
    actor: PolicyActor<'a>,
    calls: usize,
    secs: f64,
}

impl Actor for TimedActor<'_> {
    fn act(&mut self, live: &mut [Live], actions: &mut [f32]) -> anyhow::Result<()> {
        let begun = Instant::now();
        self.actor.act(live, actions)?;
        self.secs += begun.elapsed().as_secs_f64();
        self.calls += 1;
        Ok(())
    }
}

/// Environments and policy together, one episode each and again, the policy's share apart.
fn rollout_bench(args: &BenchPolicyArgs) -> anyhow::Result<Value> {
    let Subject { policy, conditioning, mut env } = subject(args)?;
    let space = env.spec().action.clone();
    let count = env.num_envs();
    let policy = Policy::Transformer(policy);
    let target = conditioning.target_return;
    let actor = PolicyActor::new(Choice::Likeliest(&policy), &conditioning, target, &space);
    let mut timed = TimedActor { actor, calls: 0, secs: 0.0 };
    let (mut steps, begun) = (0, Instant::now());
    while begun.elapsed().as_secs_f64() < args.seconds {
        let episodes = rollout::play(env.as_mut(), &mut timed, count, steps as u64)?;
        steps += episodes.iter().map(crate::data::Trajectory::len).sum::<usize>();
    }
    let secs = begun.elapsed().as_secs_f64();
    Ok(json!({
        "env": args.env.id,
        "num_envs": count,
        "context_length": conditioning.context_length,
        "steps": steps,
        "steps_per_sec": steps as f64 / secs,
        "policy_secs_per_step": timed.secs / timed.calls as f64,
        "policy_share": timed.secs / secs,
    }))
}

/// Random episodes to draw windows from.
fn random_replay(env: &mut dyn VecEnv) -> anyhow::Result<Replay> {
    let spec = env.spec().clone();
    let mut replay = Replay::new(64, spec.observation_width(), spec.action.width());
    let mut actor = RandomActor { space: spec.action };
    for episode in rollout::play(env, &mut actor, 64, 0)? {
        replay.push(episode);
    }
    Ok(replay)
}

/// EVA until it settles, beside the same forward passes alone.
fn eva(args: &BenchPolicyArgs) -> anyhow::Result<Value> {
    let Subject { policy, conditioning, mut env } = subject(args)?;
    let replay = random_replay(env.as_mut())?;
    let rank = Rank::try_from(args.rank).or_input()?;
    let settings = Settings { rank, scaling: SCALING, rho: 2.0, tau: 0.99 };
    let batch = |index: usize| {
        let mut draw = rng::generator(0, Purpose::EvaWindows, index);
        conditioning.inputs(&replay.sample(BATCH, conditioning.context_length, &mut draw).view())
    };
    let begun = Instant::now();
    let mut search = Eva::new(&policy, &policy.sites(), settings);
    while search.batches() < 500 && search.observe(&policy, &batch(search.batches()))? < 1.0 {}
    let eva_secs = begun.elapsed().as_secs_f64();

    let no_adapters = AdapterSet::default();
    let begun = Instant::now();
    for index in 0..search.batches() {
        let mut pass = Pass { adapters: &no_adapters, tap: &mut NoTap, train: false };
        let _encoded = tch::no_grad(|| policy.encode(&mut pass, &batch(index)));
    }
    let forward_secs = begun.elapsed().as_secs_f64();
    Ok(json!({
        "batches": search.batches(),
        "batch_size": BATCH,
        "context_length": conditioning.context_length,
        "rank": args.rank,
        "eva_secs": eva_secs,
        "forward_secs": forward_secs,
        "ratio": eva_secs / forward_secs,
    }))
}

/// LoRA updates: forward, backward, AdamW.
fn update(args: &BenchPolicyArgs) -> anyhow::Result<Value> {
    let Subject { policy, conditioning, mut env } = subject(args)?;
    let replay = random_replay(env.as_mut())?;
    let rank = Rank::try_from(args.rank).or_input()?;
    let mut adapters = AdapterSet::default();
    for site in policy.sites() {
        let (input, output) = policy.site_shape(site).expect("a site of this policy");
        adapters.sites.insert(site, adapter::lora(input, output, rank, SCALING, policy.device()));
    }
    let mut optimiser = AdamW::new(adapters.parameters(), AdamWSettings::default());
    let mut draw = rng::generator(0, Purpose::UpdateWindows, 0);
    let (mut updates, mut begun) = (0, Instant::now());
    while updates < 2 || begun.elapsed().as_secs_f64() < args.seconds {
        if updates == 1 {
            begun = Instant::now(); // the first one warms up
        }
        let inputs =
            conditioning.inputs(&replay.sample(BATCH, conditioning.context_length, &mut draw).view());
        let mut pass = Pass { adapters: &adapters, tap: &mut NoTap, train: true };
        let loss = objective::imitation(&policy, &mut pass, &inputs);
        optimiser.zero_grad();
        loss.backward();
        optimiser.step(1e-4);
        updates += 1;
    }
    let secs = begun.elapsed().as_secs_f64() / f64::from(updates - 1);
    Ok(
        json!({ "batch_size": BATCH, "context_length": conditioning.context_length, "rank": args.rank, "secs_per_update": secs }),
    )
}
