//! `evaluate`: episodes with a policy, and what they returned.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use eva_rl_agents::model::{Conditioning, PolicyConfig};
use eva_rl_envs::EnvSpec;
use serde_json::json;
use tch::Device;

use crate::cli::EvaluateArgs;
use crate::data::{self, Dataset, Reading, greatest_return};
use crate::evaluation::video;
use crate::evaluation::{self, Play};
use crate::policies;
use crate::policies::{Shown, TaskEnv};
use crate::report::{draw_targets, target_table};
use crate::rollout::{self, Inference, Prompt};
use crate::support::atomic::{refuse_existing, write_file};
use crate::support::errors::{InputError, env_failure, tell};
use crate::support::ranks;
use crate::support::seeds::{self, Purpose};
use crate::support::stdout::{print, print_json};
use crate::support::threads;

/// Runs `evaluate`.
pub fn run(args: EvaluateArgs) -> anyhow::Result<()> {
    check_output("--gif", args.gif.as_deref(), &["gif"])?;
    check_output("--figure", args.figure.as_deref(), &["svg", "png"])?;
    let num_envs = args.env.options.num_envs.min(args.episodes) as usize;
    let source = args.given.source(&args.policy, args.adapter.as_deref())?;
    let policy = policies::read_merged(&source, Device::Cpu)?;
    let TaskEnv { id, kwargs, reference } = args.env.resolve(Some((policy.config(), &source.policy)))?;
    let bridge = args.env.options.bridge(&id, policy.reads_images())?;
    let mut env = rollout::make_part(ranks::world(), &id, &kwargs, num_envs, &bridge).map_err(env_failure)?;
    let spec = EnvSpec { reference: reference.or(env.spec().reference), ..env.spec().clone() };
    let whose = format!("`{}`", spec.id);
    let mut policy = policies::fitted(policy, Shown::by(&spec), &spec.action, &whose)?;
    threads::for_rollouts(policy.config(), num_envs);
    let data = args.of_data.read(policy.reads_images())?;
    source.take_statistics(policy.config_mut(), data.as_slice(), args.of_data.data.as_deref())?;
    let mut targets = args.of_data.targets(&args.target_returns, data.as_ref())?;
    if let Some(sweep) = args.target_sweep {
        let [least, best] = known_returns(data.as_ref(), &spec, policy.config());
        targets = sweep.targets(least, best);
    }
    let target = targets.first().copied();
    let mut conditioning = policies::conditioning(policy.config(), policy.device(), &source.policy, target)?;
    conditioning.return_cap = args.acting.cap()?;
    if args.target_sweep.is_some() && !conditioning.reads_returns {
        let text = "--target-sweep is given, and the policy is told no return, expected it to be left out";
        return Err(InputError(text.to_owned()).into());
    }
    policies::check_returns(&conditioning, &targets, conditioning.return_cap)?;
    policies::check_spaces(policy.config(), Shown::by(&spec), &spec.action, &whose)?;
    if targets.is_empty() {
        targets.push(conditioning.target_return);
    }
    policies::tell_long_episodes(policy.config(), &spec);
    if args.target_sweep.is_none() {
        policies::tell_far_targets(&targets, conditioning.max_return_to_go);
    }

    let seed = seeds::seed(args.seed, Purpose::Evaluation, 0);
    let episodes = args.episodes as usize;
    let (choice, inference) = (args.acting.actions.of(&policy)?, args.acting.inference.by(&policy));
    let prompt = match &args.prompt {
        None => None,
        Some(path) => Some(Arc::new(prompt(path, policy.config(), &conditioning, &spec, inference)?)),
    };
    let play = Play {
        choice,
        conditioning: &conditioning,
        target_return: targets[0],
        inference,
        prompt: prompt.as_ref(),
        ranks: ranks::world(),
    };
    let mut found = evaluation::evaluate(play, env.as_mut(), episodes, &targets, seed)?;
    found.iter_mut().for_each(|evaluation| evaluation.score_by(spec.reference));
    if let (Some(gif), true) = (&args.gif, play.ranks.is_first()) {
        let env = video::drawable(&id, &kwargs, &bridge).map_err(env_failure)?;
        let video = video::record(env, &mut play.actor(&spec.action), seed)?;
        video.write(gif)?;
        tell(&format!("the video {gif:?} shows {}", video.pace));
    }
    if let (Some(figure), true) = (&args.figure, play.ranks.is_first()) {
        let title = format!("{} in {}", source.policy.display(), spec.id);
        let bytes = draw_targets(&found, &title, figure)?;
        write_file(figure, |aside| Ok(std::fs::write(aside, &bytes)?))?;
    }
    if args.json {
        return print_json(&json!({
            "policy": source.policy,
            "adapter": source.adapter,
            "env": { "id": id, "kwargs": kwargs },
            "seed": args.seed,
            "results": found,
        }));
    }
    if args.target_sweep.is_some() {
        return print(&target_table(&found).markdown());
    }
    for evaluation in &found {
        print(&format!("{}: {}", evaluation.setting(), evaluation.line()))?;
    }
    Ok(())
}

/// Refuses a file that exists, or whose name has none of these ends.
fn check_output(option: &str, file: Option<&Path>, ends: &[&str]) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    refuse_existing(file)?;
    let end = file.extension().map(|end| end.to_ascii_lowercase());
    if !ends.iter().any(|wanted| end.as_deref() == Some(OsStr::new(wanted))) {
        let wanted = ends.join(" or .");
        return Err(
            InputError(format!("{option} is {file:?}, expected a name that ends in .{wanted}")).into()
        );
    }
    Ok(())
}

/// The least and the greatest return that anything says of: the data, the environment, or the policy's target.
fn known_returns(data: Option<&Dataset>, spec: &EnvSpec, config: &PolicyConfig) -> [f32; 2] {
    if let Some(data) = data {
        let returns = data.trajectories.iter().map(|trajectory| trajectory.total_return() as f32);
        let least = returns.fold(f32::INFINITY, f32::min);
        return [least, greatest_return(std::slice::from_ref(data))];
    }
    if let Some(reference) = spec.reference {
        return [reference.random as f32, reference.expert as f32];
    }
    match config.target_return.unwrap_or(0.0) {
        target if target < 0.0 => [2.0 * target, target],
        target => [0.0, target],
    }
}

/// The demonstrations in a dataset, for a policy whose context can hold them.
fn prompt(
    path: &Path,
    config: &PolicyConfig,
    conditioning: &Conditioning,
    spec: &EnvSpec,
    inference: Inference,
) -> anyhow::Result<Prompt> {
    let refuse = |text: String| Err(InputError(text).into());
    if !conditioning.spans_episodes {
        return refuse(
            "--prompt is given, and the policy looks at one episode alone, expected it to be left out"
                .to_owned(),
        );
    }
    if inference == Inference::Cached {
        return refuse("--prompt is given with --inference cached, expected window or reference".to_owned());
    }
    let dataset = data::read_named(path, Reading::default())?;
    let whose = format!("the dataset {path:?}");
    policies::check_shown(config, Shown::in_data(&dataset), &whose)?;
    if let Some(difference) = dataset.differs_from(spec) {
        return refuse(format!("{whose} {difference}"));
    }
    let (steps, longest) = (dataset.steps(), conditioning.context_length);
    if steps >= longest {
        return refuse(format!(
            "{whose} holds {steps} steps, expected less than the {longest} of the policy's context"
        ));
    }
    Ok(Prompt::of(&dataset))
}
