//! The README.md of a run folder: what was trained, on what, how well it does, how to load it.

use std::path::Path;

use eva_rl_agents::model::PolicyConfig as PolicyFile;

use super::folder::{RunDir, RunState};
use crate::config::{PolicyConfig, RunPlan};
use crate::evaluation::{Evaluated, Evaluation};
use crate::support::atomic::absolute;
use crate::support::tables;

/// What a finished run has come to.
#[derive(Clone, Copy, Debug)]
pub struct CardFacts<'a> {
    /// Offline trajectories.
    pub trajectories: usize,
    /// Their steps.
    pub steps: usize,
    /// Every evaluation.
    pub evaluations: &'a [Evaluated],
    /// Where it ended.
    pub state: &'a RunState,
    /// The policy's config.
    pub policy: &'a PolicyFile,
    /// Parameters that were trained.
    pub trained: usize,
    /// Whether they are adapters, rather than the whole policy.
    pub adapters: bool,
}

/// The model card of a finished run.
pub fn text(plan: &RunPlan, run_dir: &RunDir, facts: &CardFacts) -> String {
    let CardFacts { trajectories, steps, evaluations, state, policy: config, trained, adapters } = *facts;
    let base = match &plan.policy {
        PolicyConfig::Pretrained { path, .. } => format!("the policy `{}`", path.display()),
        PolicyConfig::New(_) | PolicyConfig::NewL2m(_) | PolicyConfig::NewLram(_) => {
            "a new policy".to_owned()
        }
    };
    let method = plan.method_label();
    let kwargs = serde_json::to_string(&plan.env.kwargs).expect("options can be written as JSON");
    let name = run_dir.root().file_name().unwrap_or_default().to_string_lossy();
    let mut card = format!(
        "# {name}\n\nA decision transformer for `{}` {kwargs}, made by `eva-rl train` from {base}.\n",
        plan.env.id
    );
    card += &format!("\n- Method: {method}; {trained} trained parameters.\n");
    card += &format!(
        "- Data: {trajectories} trajectories, {steps} steps, and {} steps of exploration.\n",
        state.env_steps
    );
    card += &format!(
        "- {} updates in {:.0} s. The config is `config.toml`.\n",
        state.updates, state.elapsed_secs
    );
    let videos = ["before.gif", "after.gif"].map(|name| (run_dir.root().join(name).exists(), name));
    let videos: Vec<String> =
        videos.iter().filter(|video| video.0).map(|video| format!("`{}`", video.1)).collect();
    if !videos.is_empty() {
        let videos = videos.join(", ");
        card +=
            &format!("- The first episode of the first and of the last evaluation, recorded: {videos}.\n");
    }
    card += "- `best/` has the greatest mean return of the evaluations below; it was chosen by the same episodes that the table reports, so its own mean is optimistic.\n";
    let row = |(evaluated, found): (&Evaluated, &Evaluation)| {
        vec![
            evaluated.updates.to_string(),
            found.target_return.map_or("–".to_owned(), |target| target.to_string()),
            format!("{:.1}", found.mean_return),
            format!("{:.1} to {:.1}", found.interval[0], found.interval[1]),
            found.episodes.to_string(),
            found.success_rate.map_or("–".to_owned(), |rate| format!("{:.0}%", 100.0 * rate)),
        ]
    };
    let all = evaluations
        .iter()
        .flat_map(|evaluated| evaluated.targets.iter().map(move |found| (evaluated, found)));
    let head = ["updates", "target return", "mean return", "95% interval", "episodes", "success"];
    card += &format!("\n{}\n", tables::markdown(&head, all.map(row)));
    if config.model_type != PolicyFile::default().model_type {
        card += "\ntransformers has no model for this policy's tokens and heads; `eva-rl evaluate` and `eva-rl predict` run it.\n";
        return card;
    }
    card += "\nIn Python:\n\n```python\n";
    let root = absolute(run_dir.root());
    card += match (&plan.policy, adapters) {
        (PolicyConfig::Pretrained { path, .. }, true) => format!(
            "from peft import PeftModel\nfrom transformers import DecisionTransformerModel\n\nbase = DecisionTransformerModel.from_pretrained({})\npolicy = PeftModel.from_pretrained(base, {})\n",
            python_string(&absolute(path)),
            python_string(&root.join("best/adapter")),
        ),
        _ => format!(
            "from transformers import DecisionTransformerModel\n\npolicy = DecisionTransformerModel.from_pretrained({})\n",
            python_string(&root.join("best/policy")),
        ),
    }
    .as_str();
    card += "```\n\nThe paths are those of the folders when this was written; where one has moved, change its path.\nStates go in normalised and returns scaled, by `state_mean`, `state_std` and `return_scale` of the policy's `config.json`.\n";
    card
}

/// A path as a Python string, whatever it holds: Python reads JSON's escapes.
fn python_string(path: &Path) -> String {
    serde_json::to_string(&path.to_string_lossy()).expect("a text can be written as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_python_is_text_and_never_code() {
        let path = Path::new("/a\"); import os; os.system(\"id\"); (\"\\\n```");
        assert_eq!(python_string(path), r#""/a\"); import os; os.system(\"id\"); (\"\\\n```""#);
    }
}
