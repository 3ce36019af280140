//! `convert`: D4RL's files of flat arrays become Minari datasets.

use eva_rl_envs::{BridgeSettings, Kwargs, Phase};
use serde_json::json;

use crate::cli::ConvertArgs;
use crate::data::{self, D4rl, DatasetFacts, RecordedEnv};
use crate::support::atomic::refuse_existing;
use crate::support::errors::{OrInput, env_failure, tell};
use crate::support::stdout::{print, print_json};

/// Runs `convert`.
pub fn run(args: ConvertArgs) -> anyhow::Result<()> {
    refuse_existing(&args.out)?;
    let kwargs: Kwargs = args.kwargs.into_iter().collect();
    let spec = match &args.env {
        None => None,
        Some(id) => {
            let env = eva_rl_envs::make_with(id, &kwargs, 1, &BridgeSettings::default());
            Some(env.map_err(env_failure)?.spec().clone())
        }
    };
    let file = D4rl::open(&args.file, spec.as_ref()).or_input()?;
    if !file.timeouts && spec.is_none() {
        tell(&format!(
            "note: {:?} has no `timeouts`, so only terminals end episodes; with --env, the environment's step limit does too",
            args.file
        ));
    }

    let (episodes, steps) = (file.cuts.len(), file.cuts.iter().map(|cut| cut.steps).sum());
    let terminated = file.cuts.iter().filter(|cut| cut.end == Phase::Terminated).count();
    let (action, mean_return, dropped) = (file.action.clone(), file.mean_return(), file.dropped);
    let reference = spec.as_ref().and_then(|spec| spec.reference);
    let algorithm = format!("converted from {}", args.file.file_name().unwrap_or_default().to_string_lossy());
    let facts = DatasetFacts {
        observation_width: file.observation_width(),
        space: None,
        image: false,
        action: &action,
        algorithm: &algorithm,
        env: spec.as_ref().zip(args.env.as_deref()).map(|(spec, id)| RecordedEnv {
            spec,
            id,
            kwargs: &kwargs,
            imports: &[],
        }),
        size: (episodes, steps),
    };
    data::write_episodes(&facts, file.into_episodes(), &args.out)?;

    if args.json {
        return print_json(&json!({
            "dataset": args.out,
            "episodes": episodes,
            "terminated": terminated,
            "truncated": episodes - terminated,
            "steps": steps,
            "dropped_steps": dropped,
            "mean_return": mean_return,
            "normalized_score": reference.map(|reference| reference.normalized(mean_return)),
            "reference_scores": reference,
            "action_space": action.to_string(),
        }));
    }
    let mut line = format!(
        "{}: {episodes} episodes ({terminated} terminated, {} truncated) of {steps} steps, actions {action}, mean return {mean_return:.1}",
        args.out.display(),
        episodes - terminated
    );
    if let Some(reference) = reference {
        let (name, score) = (reference.score_name(), reference.normalized(mean_return));
        line += &format!(", {name} {score:.1} ({reference})");
    }
    if dropped > 0 {
        let (steps, them) = if dropped == 1 { ("step was", "it") } else { ("steps were", "them") };
        line += &format!("; {dropped} {steps} dropped, because the file has no observation after {them}");
    }
    print(&line)
}
