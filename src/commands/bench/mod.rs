//! `bench`: throughput on this machine, the stages apart.

mod subject;
mod update;
mod windows;

use std::time::Instant;

use eva_rl_agents::adapter::AdapterFolder;
use eva_rl_agents::adapter_init::{AdapterMethod, TaskData};
use eva_rl_agents::model::{ForwardContext, Given, Inputs, Policy, PolicyConfig, Previous};
use eva_rl_agents::ranks::OneRank;
use eva_rl_envs::{EnvError, StepBatch};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use self::subject::{Subject, median, subject};
use crate::cli::{BenchArgs, BenchEnvArgs, BenchEvaArgs, BenchForwardArgs, BenchRolloutArgs, BenchWhat};
use crate::config::AdapterConfig;
use crate::policies;
use crate::policies::Base;
use crate::policies::read_inputs;
use crate::report::eva_summary::EvaSummary;
use crate::rollout::{self, ActionSelection, PolicyActor};
use crate::support::atomic::{refuse_existing, write_folder};
use crate::support::errors::{InputError, OrInput, env_failure};
use crate::support::progress;
use crate::support::seeds::{self, Purpose};
use crate::support::stdout::{brief, print, print_json};
use crate::support::threads;
use crate::training::check_tokens;

/// Runs `bench`.
pub fn run(args: BenchArgs) -> anyhow::Result<()> {
    let (found, as_json) = match args.what {
        BenchWhat::Env(args) => (env(&args)?, args.json),
        BenchWhat::Forward(args) => (forward(&args)?, args.json),
        BenchWhat::Rollout(args) => (rollout_bench(&args)?, args.json),
        BenchWhat::Eva(args) => (eva(&args)?, args.json),
        BenchWhat::Update(args) => (update::run(&args)?, args.json),
        BenchWhat::Windows(args) => (windows::run(&args)?, args.json),
    };
    if as_json {
        return print_json(&found);
    }
    let Value::Object(figures) = found else { return print_json(&found) };
    for (name, figure) in figures {
        print(&format!("{name}: {}", brief(&figure)))?;
    }
    Ok(())
}

/// Environments alone; the actions were drawn before.
fn env(args: &BenchEnvArgs) -> anyhow::Result<Value> {
    let count = args.env.options.num_envs as usize;
    let mut env = eva_rl_envs::make_with(
        &args.env.id,
        &args.env.options.kwargs(),
        count,
        &args.env.options.bridge(&args.env.id, true)?,
    )
    .map_err(env_failure)?;
    let space = env.spec().action.clone();
    let mut draw = seeds::generator(0, Purpose::Acting, 0);
    let mut actions = vec![vec![0.0; count * space.width()]; 16];
    for row in actions.iter_mut().flat_map(|actions| actions.chunks_exact_mut(space.width())) {
        rollout::draw_uniform(&space, &mut draw, row);
    }
    let mut batch = StepBatch::new(env.spec(), count);
    env.reset(0, &mut batch.observations)?;
    let (mut steps, begun) = (0, Instant::now());
    // On a thread of rayon's own, as runs play: it steps rows itself, and wakes only the others.
    let played = rayon::scope(|_| -> Result<(), EnvError> {
        while begun.elapsed().as_secs_f64() < args.seconds {
            for actions in &actions {
                env.step(actions, &mut batch)?;
                steps += count;
            }
        }
        Ok(())
    });
    played?;
    let rate = steps as f64 / begun.elapsed().as_secs_f64();
    Ok(json!({ "env": args.env.id, "num_envs": count, "steps": steps, "steps_per_sec": rate }))
}

/// Whole forward passes, every prediction of every step, as transformers' model makes them.
fn forward(args: &BenchForwardArgs) -> anyhow::Result<Value> {
    let given = Given { compact: true, ..Given::default() };
    let policy = policies::read_transformer(&args.policy, given, Device::Cpu)?;
    let (batch, steps) = (i64::from(args.batch_size), i64::from(args.steps));
    let inputs = random_inputs(policy.config(), batch, steps)?;
    let mut secs = Vec::new();
    let begun = Instant::now();
    while begun.elapsed().as_secs_f64() < args.seconds || secs.len() < 3 {
        let mut context = ForwardContext::bare();
        let one = Instant::now();
        tch::no_grad(|| policy.forward(&mut context, &inputs));
        secs.push(one.elapsed().as_secs_f64());
    }
    Ok(json!({
        "batch_size": batch,
        "steps": steps,
        "threads": tch::get_num_threads(),
        "forwards": secs.len(),
        "least_secs": secs.iter().copied().fold(f64::INFINITY, f64::min),
        "secs_per_forward": median(secs),
    }))
}

/// Steps of the longest window that a policy has timesteps and positions for.
fn longest_window(config: &PolicyConfig) -> i64 {
    match config.global_positions {
        true => config.max_ep_len.min(config.n_positions / config.token_order.len() as i64),
        false => config.max_ep_len,
    }
}

/// Whole windows of normal numbers.
fn random_inputs(config: &PolicyConfig, batch: i64, steps: i64) -> anyhow::Result<Inputs> {
    let longest = longest_window(config);
    if steps > longest {
        let text =
            format!("windows have {steps} steps, and the policy has timesteps and positions for {longest}");
        return Err(InputError(text).into());
    }
    let normal = |width| Tensor::randn([batch, steps, width], (Kind::Float, Device::Cpu));
    let whole = |highest, shape: &[i64], kind| {
        Tensor::randint(highest, [&[batch, steps], shape].concat(), (kind, Device::Cpu))
    };
    Ok(Inputs {
        states: match config.grid {
            Some(_) => whole(4, &[config.numbers()], Kind::Float), // ids that every vocabulary has
            None => normal(config.numbers()),
        },
        words: config
            .text
            .as_ref()
            .map(|text| whole(text.words.len() as i64 + 1, &[text.longest as i64], Kind::Int64)),
        images: config.image_shape.map(|shape| whole(256, &shape, Kind::Uint8)),
        previous: config
            .reads_previous()
            .then(|| Previous { actions: normal(config.act_dim), rewards: normal(1) }),
        actions: normal(config.act_dim),
        rewards: Some(normal(1)),
        returns_to_go: normal(1),
        timesteps: Tensor::arange(steps, (Kind::Int64, Device::Cpu)).repeat([batch, 1]),
        mask: Tensor::ones([batch, steps], (Kind::Bool, Device::Cpu)),
    })
}

/// Environments and policy together, one episode each and again; times are of one step of all environments.
fn rollout_bench(args: &BenchRolloutArgs) -> anyhow::Result<Value> {
    let given = Given { compact: true, ..args.given.given()? };
    let Subject { policy, conditioning, mut env } = subject(&args.policy, given, &args.env, args.whole)?;
    let space = env.spec().action.clone();
    let count = env.num_envs();
    threads::for_rollouts(policy.config(), count);
    let policy = Policy::Transformer(policy);
    let target = conditioning.target_return;
    let (mut steps, mut timings, begun) = (0, Vec::new(), Instant::now());
    while begun.elapsed().as_secs_f64() < args.seconds {
        let choice = ActionSelection::Greedy(&policy);
        let mut actor = PolicyActor::new(choice, &conditioning, target, &space, args.inference);
        let played = rollout::play(env.as_mut(), &mut actor, count, steps as u64, &OneRank)?;
        steps += played.episodes.iter().map(crate::data::Trajectory::len).sum::<usize>();
        timings.extend(played.timings);
    }
    let secs = begun.elapsed().as_secs_f64();
    let taken: usize = timings.iter().map(|timing| timing.steps).sum();
    let policy_secs: f64 = timings.iter().map(|timing| timing.policy_secs).sum();
    let env_secs: f64 = timings.iter().map(|timing| timing.env_secs).sum();
    Ok(json!({
        "env": args.env.id,
        "num_envs": count,
        "context_length": conditioning.context_length,
        "inference": args.inference,
        "threads": if args.whole || count == 1 { 1 } else { 2 },
        "steps": steps,
        "steps_per_sec": steps as f64 / secs,
        "policy_secs_per_step": policy_secs / taken as f64,
        "env_secs_per_step": env_secs / taken as f64,
        "waiting_fraction": env_secs / (env_secs + policy_secs),
    }))
}

/// EVA until it has converged, beside the same forward passes alone; each in turn, several times over.
fn eva(args: &BenchEvaArgs) -> anyhow::Result<Value> {
    if let Some(out) = &args.out {
        refuse_existing(out)?;
    }
    let options = args.eva.options(args.batch_size)?;
    let mut policy = policies::read_transformer(&args.policy, Given::default(), Device::Cpu)?;
    if let Some(path) = &args.inputs {
        policy = match policies::fitted_to(Policy::Transformer(policy), path)? {
            Policy::Transformer(policy) => policy,
            Policy::TorchScript(_) => unreachable!("it was none before"),
        };
    }
    threads::for_eva(policy.config(), args.batch_size as usize);
    check_tokens(&AdapterConfig::Eva(options.clone()), &policy)?;
    let sites = policy.sites_named(&options.lora.target_modules).or_input()?;
    let size = i64::from(args.batch_size);
    let windows = match &args.inputs {
        Some(path) => read_inputs(path, policy.config())?,
        None => random_inputs(policy.config(), 40 * size, longest_window(policy.config()).min(20))?,
    };
    let mut batches = Batches { windows, size };
    let (mut eva_secs, mut forward_secs, mut last) = (Vec::new(), Vec::new(), None);
    let bar = progress::bar(args.repeats as usize, "repeats");
    for _ in 0..args.repeats {
        seeds::seed_torch(0, Purpose::Weights, 0);
        let begun = Instant::now();
        let initialised = options.initialise(&policy, &sites, &mut batches, &mut |_| {}).or_input()?;
        eva_secs.push(begun.elapsed().as_secs_f64());
        let result = initialised.eva.expect("EVA has a result");
        let adapters = initialised.adapters.expect("EVA makes adapters");

        let begun = Instant::now();
        for index in 0..result.progress.batches {
            let inputs = batches.sampled_batch(index);
            let _encoded = tch::no_grad(|| policy.encode(&mut ForwardContext::bare(), &inputs));
        }
        forward_secs.push(begun.elapsed().as_secs_f64());
        bar.inc(1);
        last = Some((result, adapters));
    }
    bar.finish_and_clear();
    let (result, adapters) = last.expect("there is at least one repeat");
    if let Some(out) = &args.out {
        let base = Base::of(&args.policy)?;
        let facts = AdapterFolder {
            base: base.name,
            revision: base.revision,
            fingerprint: None,
            rank: options.lora.rank.get(),
            scaling: options.lora.scaling(),
            origin: options.origin(),
            fan_in_fan_out: policy.sites().all(|site| site.fan_in_fan_out),
            kernels: policy.kernels(),
        };
        let summary = EvaSummary::new(&result);
        write_folder(out, |folder| {
            facts.write(&adapters, folder)?;
            summary.write(folder)
        })?;
    }
    let (eva_secs, forward_secs) = (median(eva_secs), median(forward_secs));
    Ok(json!({
        "batches": result.progress.batches,
        "converged": result.progress.done,
        "converged_fraction": result.progress.converged_fraction,
        "batch_size": size,
        "rank": options.lora.rank.get(),
        "eva_secs": eva_secs,
        "forward_secs": forward_secs,
        "ratio": eva_secs / forward_secs,
    }))
}

/// Windows in batches that come again and again, in the same order.
struct Batches {
    windows: Inputs,
    size: i64,
}

impl TaskData for Batches {
    fn batches_per_pass(&self) -> usize {
        let windows = self.windows.timesteps.size()[0];
        windows.cast_unsigned().div_ceil(self.size.cast_unsigned()) as usize
    }

    fn batch_of_pass(&mut self, _: usize, batch: usize) -> Inputs {
        self.sampled_batch(batch)
    }

    fn sampled_batch(&mut self, batch: usize) -> Inputs {
        let windows = self.windows.timesteps.size()[0];
        let start = (batch % self.batches_per_pass()) as i64 * self.size;
        self.windows.narrow(start, self.size.min(windows - start))
    }
}
