//! `envs`: the environments at hand.

use eva_rl_envs::ActionSpace;
use serde_json::json;

use crate::cli::EnvsArgs;
use crate::support::stdout::{print, print_json};
use crate::support::tables;

/// Runs `envs`.
pub fn run(args: EnvsArgs) -> anyhow::Result<()> {
    let specs = eva_rl_envs::specs();
    if args.json {
        // JSON has no infinity: an unbounded side is null.
        let bound = |x: &f32| x.is_finite().then_some(*x);
        let list: Vec<_> = specs
            .iter()
            .map(|spec| {
                let action = match &spec.action {
                    ActionSpace::Discrete { n, start } => {
                        json!({ "type": "Discrete", "n": n, "start": start })
                    }
                    ActionSpace::MultiDiscrete { counts, starts } => {
                        json!({ "type": "MultiDiscrete", "nvec": counts, "start": starts })
                    }
                    ActionSpace::Box { low, high } => {
                        json!({ "type": "Box", "shape": [low.len()], "low": low, "high": high })
                    }
                };
                let low: Vec<_> = spec.observation_low.iter().map(bound).collect();
                let high: Vec<_> = spec.observation_high.iter().map(bound).collect();
                json!({
                    "id": spec.id,
                    "observation_space": { "type": "Box", "shape": [low.len()], "low": low, "high": high },
                    "action_space": action,
                    "max_episode_steps": spec.max_episode_steps,
                    "reward_threshold": spec.reward_threshold,
                    "reference_scores": spec.reference,
                    "backend": "native",
                })
            })
            .collect();
        return print_json(&list);
    }
    let rows = specs.iter().map(|spec| {
        vec![
            spec.id.clone(),
            spec.observation_width().to_string(),
            spec.action.to_string(),
            spec.max_episode_steps.to_string(),
            spec.reference.map_or(String::new(), |r| format!("{}..{}", r.random, r.expert)),
            "native".to_owned(),
        ]
    });
    let head = ["id", "observation", "action", "steps", "random..expert", "backend"];
    print(&tables::aligned(&head, &["observation", "steps", "random..expert"], rows.collect()))?;
    print("")?;
    print(
        "envpool:ID is any task of EnvPool's, gymnasium:ID any of Gymnasium's registry, in Python workers (make bridge)",
    )
}
