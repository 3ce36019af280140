//! `evaluate`: episodes with a policy, and what they returned.

use serde_json::json;
use tch::Device;

use crate::cli::EvaluateArgs;
use crate::evaluation::video;
use crate::evaluation::{self, Play};
use crate::policies;
use crate::policies::{Shown, Source};
use crate::support::atomic::refuse_existing;
use crate::support::errors::{InputError, env_failure, tell};
use crate::support::seeds::{self, Purpose};
use crate::support::stdout::{print, print_json};
use crate::support::threads;

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
    let source = Source::of(&args.policy, args.adapter.as_deref(), args.given.given())?;
    let policy = policies::read_merged(&source, Device::Cpu)?;
    let bridge = args.env.bridge(policy.reads_images())?;
    let mut env = eva_rl_envs::make_halves(&args.env.id, &kwargs, num_envs, &bridge).map_err(env_failure)?;
    let spec = env.spec().clone();
    let whose = format!("`{}`", spec.id);
    let policy = policies::fitted(policy, Shown::by(&spec), &spec.action, &whose)?;
    threads::for_rollouts(policy.config(), num_envs);
    if let Some(target) = args.target_returns.iter().find(|target| !target.is_finite()) {
        return Err(InputError(format!("--target-return is {target}, expected a finite number")).into());
    }
    let target = args.target_returns.first().copied();
    let mut conditioning = policies::conditioning(policy.config(), policy.device(), &source.policy, target)?;
    conditioning.return_cap = args.acting.cap()?;
    policies::check_returns(&conditioning, &args.target_returns, conditioning.return_cap)?;
    policies::check_spaces(policy.config(), Shown::by(&spec), &spec.action, &whose)?;
    let targets =
        if args.target_returns.is_empty() { vec![conditioning.target_return] } else { args.target_returns };
    policies::tell_long_episodes(policy.config(), &spec);
    policies::tell_far_targets(&targets, conditioning.max_return_to_go);

    let seed = seeds::seed(args.seed, Purpose::Evaluation, 0);
    let episodes = args.episodes as usize;
    let (choice, inference) = (args.acting.actions.of(&policy)?, args.acting.inference.by(&policy));
    let found =
        evaluation::evaluate(choice, &conditioning, env.as_mut(), episodes, &targets, seed, inference)?;
    if let Some(gif) = &args.gif {
        let env = video::drawable(&args.env.id, &kwargs, &bridge).map_err(env_failure)?;
        let play = Play { choice, conditioning: &conditioning, target_return: targets[0], inference };
        let video = video::record(env, &mut play.actor(&spec.action), seed)?;
        video.write(gif)?;
        tell(&format!("the video {gif:?} shows {}", video.pace));
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
        print(&format!("{}: {}", evaluation.setting(), evaluation.line()))?;
    }
    Ok(())
}
