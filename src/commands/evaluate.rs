//! `evaluate`: episodes with a policy, and what they returned.

use serde_json::json;
use tch::Device;

use super::{print, print_json};
use crate::agent;
use crate::cli::EvaluateArgs;
use crate::evaluation;
use crate::failure::{InputError, OrInput, tell};
use crate::film;
use crate::output::refuse_existing;
use crate::rng::{self, Purpose};
use crate::rollout::{Choice, PolicyActor};
use crate::source::Source;
use crate::threads;

/// Runs `evaluate`.
pub fn run(args: EvaluateArgs) -> anyhow::Result<()> {
    if let Some(gif) = &args.gif {
        refuse_existing(gif)?;
        if gif.extension().is_none_or(|end| !end.eq_ignore_ascii_case("gif")) {
            return Err(InputError(format!("--gif is {gif:?}, expected a name that ends in .gif")).into());
        }
    }
    let kwargs = args.env.kwargs();
    let num_envs = args.env.num_envs.min(args.episodes) as usize;
    let bridge = args.env.bridge()?;
    let mut env = eva_rl_envs::make_halves(&args.env.id, &kwargs, num_envs, &bridge).or_input()?;
    let source = Source::of(&args.policy, args.adapter.as_deref(), args.statistics.file())?;
    let policy = agent::read_merged(&source, Device::Cpu)?;
    threads::for_rollouts(policy.config(), num_envs);
    let spec = env.spec().clone();
    let conditioning = agent::conditioning(policy.config(), policy.device(), &source.policy)?;
    let whose = format!("`{}`", spec.id);
    agent::check_spaces(policy.config(), spec.observation_width(), &spec.action, &whose)?;
    if let Some(target) = args.target_returns.iter().find(|target| !target.is_finite()) {
        return Err(InputError(format!("--target-return is {target}, and a finite number is wanted")).into());
    }
    let targets =
        if args.target_returns.is_empty() { vec![conditioning.target_return] } else { args.target_returns };

    let seed = rng::seed(args.seed, Purpose::Evaluation, 0);
    let episodes = args.episodes as usize;
    let found =
        evaluation::evaluate(&policy, &conditioning, env.as_mut(), episodes, &targets, seed, args.inference)?;
    if let Some(gif) = &args.gif {
        let env = film::drawable(&args.env.id, &kwargs, &bridge).or_input()?;
        let choice = Choice::Likeliest(&policy);
        let mut actor = PolicyActor::new(choice, &conditioning, targets[0], &spec.action, args.inference);
        let film = film::film(env, &mut actor, seed)?;
        film.write(gif)?;
        tell(&format!("the film {gif:?} shows {}", film.pace));
    }
    if args.json {
        return print_json(&json!({
            "policy": source.policy,
            "adapter": source.adapter,
            "env": { "id": args.env.id, "kwargs": kwargs },
            "seed": args.seed,
            "results": found,
        }));
    }
    for evaluation in &found {
        let target = evaluation.target_return.unwrap_or_default();
        print(&format!("asking for {target}: {}", evaluation.line()))?;
    }
    Ok(())
}
