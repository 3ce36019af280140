//! `bench update`: updates of LoRA adapters, their parts apart.

use std::time::Instant;

use anyhow::Context;
use eva_rl_agents::adapter::{self, AdapterSet, Rank};
use eva_rl_agents::loss::behaviour_cloning;
use eva_rl_agents::model::{EmbeddingCache, ForwardContext, FusedLora, Inputs, TransformerPolicy};
use eva_rl_agents::optimiser::{Optimiser, Settings};
use eva_rl_agents::ranks::OneRank;
use eva_rl_envs::VecEnv;
use serde_json::{Value, json};
use tch::Device;

use super::subject::{SCALING, Subject, median, subject};
use crate::cli::{BenchUpdateArgs, EnvArgs};
use crate::data::Replay;
use crate::policies;
use crate::policies::read_inputs;
use crate::rollout::{self, RandomActor};
use crate::support::errors::{InputError, OrInput};
use crate::support::seeds::{self, Purpose};
use crate::support::threads;

/// Joint norm that the gradients are scaled down to.
const CLIP: f64 = 0.25;

/// Gives the batch of an update.
type Source = Box<dyn FnMut(usize) -> Inputs>;

/// Reads the policy and what its windows come from: random episodes, from which they are drawn as `train`
/// draws them, or a file, which is gone through again and again.
fn read(args: &BenchUpdateArgs) -> anyhow::Result<(TransformerPolicy, Source)> {
    let batch = i64::from(args.batch_size);
    if let Some(id) = &args.id {
        let env = EnvArgs { id: id.clone(), options: args.options.clone() };
        let Subject { policy, conditioning, mut env } =
            subject(&args.policy, args.given.given()?, &env, true)?;
        let replay = random_replay(env.as_mut())?.read_by(&conditioning);
        let mut draw = seeds::generator(0, Purpose::UpdateWindows, 0);
        let source = move |_| {
            let windows = replay.sample(batch as usize, conditioning.context_length, &mut draw);
            conditioning.inputs(&windows.view())
        };
        return Ok((policy, Box::new(source)));
    }
    let path = args.inputs.as_ref().context("clap lets neither --env nor --inputs be absent")?;
    let policy = policies::read_transformer(&args.policy, args.given.given()?, Device::Cpu)?;
    let inputs = read_inputs(path, policy.config())?;
    let windows = inputs.timesteps.size()[0];
    if windows < batch {
        return Err(InputError(format!("{path:?} holds {windows} windows, and a batch has {batch}")).into());
    }
    let source = move |update: usize| inputs.narrow(update as i64 % (windows / batch) * batch, batch);
    Ok((policy, Box::new(source)))
}

/// Random episodes to draw windows from.
fn random_replay(env: &mut dyn VecEnv) -> anyhow::Result<Replay> {
    let spec = env.spec().clone();
    let mut replay = Replay::new(64, spec.observation_width(), spec.action.width());
    let mut actor = RandomActor { space: spec.action };
    for episode in rollout::play(env, &mut actor, 64, 0, &OneRank)?.episodes {
        replay.push(episode);
    }
    Ok(replay)
}

/// The same inputs, whose images are embeddings where there is a cache of these.
fn embedded(
    policy: &TransformerPolicy,
    cache: Option<&mut EmbeddingCache>,
    inputs: Inputs,
) -> anyhow::Result<Inputs> {
    let (Some(cache), Some(images)) = (cache, &inputs.images) else { return Ok(inputs) };
    let (batch, steps) = inputs.timesteps.size2()?;
    let pixels = Vec::<u8>::try_from(&images.flatten(0, -1))?;
    let embedded = tch::no_grad(|| cache.embed(policy, &pixels)); // [B·T, D]
    Ok(Inputs { images: Some(embedded.view([batch, steps, -1])), ..inputs })
}

/// Medians over the updates, of which the first warms up and is not counted.
pub fn run(args: &BenchUpdateArgs) -> anyhow::Result<Value> {
    let (policy, mut source) = read(args)?;
    threads::for_passes(policy.config(), usize::from(args.batch_size));
    let rank = Rank::try_from(args.rank).or_input()?;
    let mut adapters = AdapterSet::default();
    for site in policy.sites() {
        let lora = adapter::lora(site.input, site.output, rank, SCALING, policy.device());
        adapters.sites.insert(site.module.clone(), lora);
    }
    if args.dora {
        policy.init_dora(&mut adapters);
    }
    let mut optimiser = Optimiser::new(adapters.parameters(), Settings::default());
    let (mut whole, mut parts): (Vec<f64>, [Vec<f64>; 4]) = Default::default();
    let (mut first_loss, mut steps) = (f64::NAN, 0);
    // Embedded once, as `train` does where nobody trains the encoder.
    let mut cache = EmbeddingCache::new(&policy, &adapters, usize::MAX).filter(|_| !args.new_images);
    let begun = Instant::now();
    for update in 0.. {
        if whole.len() >= 3 && begun.elapsed().as_secs_f64() >= args.seconds {
            break;
        }
        let started = Instant::now();
        let inputs = embedded(&policy, cache.as_mut(), source(update))?;
        let built = Instant::now();
        let mut fused = FusedLora::default();
        let mut context = ForwardContext::with_adapters(&adapters).train(true).fused(&mut fused);
        let loss = behaviour_cloning(&policy, &mut context, &inputs);
        let forwarded = Instant::now();
        optimiser.zero_grad();
        fused.backward(&loss, &adapters, &optimiser.parameters());
        let differentiated = Instant::now();
        let norm = optimiser.grad_norm();
        optimiser.clip(norm, CLIP);
        optimiser.step(1e-4);
        let stepped = Instant::now();
        if update == 0 {
            (first_loss, steps) = (loss.double_value(&[]), inputs.timesteps.size()[1]);
            continue;
        }
        let instants = [started, built, forwarded, differentiated, stepped];
        for (part, ends) in parts.iter_mut().zip(instants.windows(2)) {
            part.push((ends[1] - ends[0]).as_secs_f64());
        }
        whole.push((stepped - started).as_secs_f64());
    }
    let [inputs, forward, backward, optimiser] = parts.map(median);
    Ok(json!({
        "batch_size": args.batch_size,
        "context_length": steps,
        "rank": args.rank,
        "threads": tch::get_num_threads(),
        "updates": whole.len(),
        "images_embedded": cache.map(|cache| cache.len()),
        "first_loss": first_loss,
        "inputs_secs": inputs,
        "forward_secs": forward,
        "backward_secs": backward,
        "optimiser_secs": optimiser,
        "secs_per_update": median(whole),
    }))
}
