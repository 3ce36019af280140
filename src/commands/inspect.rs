//! `inspect`: what a policy, an adapter, a dataset or a run holds.

use std::path::{Path, PathBuf};

use eva_rl_agents::adapter::AdapterFolder;
use eva_rl_agents::model::{Conditioning, Given, Policy};
use serde_json::{Value, json};
use tch::{Device, Tensor};

use crate::cli::InspectArgs;
use crate::data::{self, Reading, Replay, Trajectory};
use crate::evaluation::{Evaluated, Reproduction};
use crate::hub::{self, HubName};
use crate::policies;
use crate::report::eva_summary::EvaSummary;
use crate::report::reproduction_text;
use crate::run_folder::{Checkpoint, RunDir};
use crate::support::errors::{InputError, OrInput, tell};
use crate::support::stdout::{brief, print, print_json};
use crate::support::threads;

/// What an adapter that EVA began is listed with: ranks and explained variance.
const MAP: &str = "map";

/// What a run is listed with, a line each for people.
const EVALUATIONS: &str = "evaluations";

/// What a policy that is held against data is listed with, a table for people.
const REPRODUCTION: &str = "reproduction";

/// Runs `inspect`.
pub fn run(args: InspectArgs) -> anyhow::Result<()> {
    let path = &saved_by_a_run(&at_hand(&args.path)?);
    let found = if args.of_data.data.is_some() {
        on_data(&args)?
    } else if path.join("data/main_data.hdf5").is_file() {
        dataset(path, args.reading.reading(true))?
    } else if path.join("config.toml").is_file() {
        run_folder(path)?
    } else if path.join("config.json").is_file() || path.is_file() {
        // What is of the Hub is read as such: by what runs no code.
        policy(if HubName::of(&args.path).is_some() { &args.path } else { path }, args.given.given()?)?
    } else if AdapterFolder::locate(path).is_ok() {
        adapter(path)?
    } else {
        let text = format!(
            "{path:?} is no policy (config.json or .pt), adapter (adapter_config.json), dataset (data/main_data.hdf5) or run (config.toml), and no name (hf:OWNER/NAME, minari:NAMESPACE/NAME)"
        );
        return Err(InputError(text).into());
    };
    if args.json {
        return print_json(&found);
    }
    let Value::Object(facts) = &found else { return print_json(&found) };
    for (name, value) in facts {
        match value {
            Value::Object(_) if name == MAP => {
                let map: EvaSummary = serde_json::from_value(value.clone())?;
                print(&format!("{name}, from {} batches:\n{}", map.batches, map.table()))?;
            }
            Value::Object(_) if name == REPRODUCTION => {
                print(&reproduction_text(&serde_json::from_value(value.clone())?, usize::MAX))?;
            }
            Value::Array(rows) if name == EVALUATIONS => {
                print(&format!("{name}:"))?;
                for row in rows {
                    print_evaluation(row)?;
                }
            }
            Value::Array(rows) if rows.first().is_some_and(Value::is_object) => {
                print(&format!("{name}:"))?;
                for row in rows {
                    print(&format!("  {}", brief(row)))?;
                }
            }
            value => print(&format!("{name}: {}", brief(value)))?,
        }
    }
    Ok(())
}

/// The folder of a policy, an adapter or a dataset that is named.
fn at_hand(path: &Path) -> anyhow::Result<PathBuf> {
    let text = path.to_string_lossy();
    let is_dataset = ["minari:", "hf://"].iter().any(|start| text.starts_with(start));
    if is_dataset { hub::dataset(path) } else { hub::local(path) }
}

/// The adapter or the policy that a run's `best/` or checkpoint holds.
fn saved_by_a_run(path: &Path) -> PathBuf {
    let parts = [("adapter", "adapter_config.json"), ("policy", "config.json")]
        .map(|(part, file)| (path.join(part), file));
    let part = parts.into_iter().find(|(part, file)| part.join(file).is_file());
    part.map_or_else(|| path.to_owned(), |(part, _)| part)
}

/// One line per target return; what an older version wrote otherwise, as it is.
fn print_evaluation(row: &Value) -> anyhow::Result<()> {
    let Ok(Evaluated { updates, targets, .. }) = serde_json::from_value(row.clone()) else {
        return print(&format!("  {row}"));
    };
    for found in targets {
        let target = found.target_return.map_or(String::new(), |target| format!(", target return {target}"));
        print(&format!("  update {updates:>6}{target}: {}", found.line()))?;
    }
    Ok(())
}

/// A policy held against data: whether it does there what the data did.
fn on_data(args: &InspectArgs) -> anyhow::Result<Value> {
    if args.path.join("data/main_data.hdf5").is_file() {
        let text = format!(
            "{:?} is a dataset, expected a policy, a run or an adapter to hold against --data",
            args.path
        );
        return Err(InputError(text).into());
    }
    let source = args.given.source(&args.path, None)?;
    let Policy::Transformer(policy) = policies::read_merged(&source, Device::Cpu)? else {
        let text = format!(
            "{:?} is a TorchScript module, which does not say what it would do at every step of a window; expected a policy in Hugging Face's format",
            args.path
        );
        return Err(InputError(text).into());
    };
    let path = args.of_data.data.as_deref().expect("it is asked for with a dataset");
    let dataset = data::read_named(path, args.reading.reading(policy.reads_images()))?;
    let (whose, shown) = (format!("the dataset {path:?}"), policies::Shown::in_data(&dataset));
    let mut policy = policies::fitted_transformer(policy, shown, &dataset.action, &whose)?;
    source.take_statistics(policy.config_mut(), std::slice::from_ref(&dataset), Some(path))?;
    policies::check_spaces(policy.config(), shown, &dataset.action, &whose)?;
    policies::check_texts(policy.config(), &dataset.trajectories, &whose)?;
    // Windows of data are conditioned on what was earned, whatever the target return.
    let target = policy.config().target_return.or(Some(0.0));
    let conditioning = policies::conditioning(policy.config(), policy.device(), &source.policy, target)?;
    threads::for_passes(policy.config(), 16);
    let (action, steps) = (dataset.action.clone(), dataset.steps());
    let replay = Replay::of(dataset, &conditioning);
    let found = Reproduction::of(&policy, &conditioning, &replay, &action);
    for warning in found.warnings() {
        tell(&format!("warning: {warning}"));
    }
    Ok(json!({
        "kind": "policy on data",
        "policy": source.policy,
        "adapter": source.adapter,
        "data": path,
        "data_steps": steps,
        "statistics": policy.config().statistics_from.to_string(),
        (REPRODUCTION): found,
        "warnings": found.warnings(),
    }))
}

fn policy(path: &Path, given: Given) -> anyhow::Result<Value> {
    let policy = policies::read_policy(path, Given { compact: true, ..given }, Device::Cpu)?;
    let (format, parameters) = match &policy {
        Policy::Transformer(policy) => {
            let name = policy.config().model_type.replace('_', " ");
            let known =
                ["decision transformer", "vintix", "jat"].into_iter().find(|known| name.contains(known));
            (known.unwrap_or("transformer"), policy.weights().values().map(Tensor::numel).sum())
        }
        Policy::TorchScript(script) => ("TorchScript", script.parameter_count()),
    };
    let config = policy.config();
    let tasks: Vec<Value> = policies::known_tasks(config)
        .into_iter()
        .map(|(name, env)| {
            let mut facts = json!({ "task": name });
            if let Some(task) = config.tasks.get(&name) {
                facts["group"] = json!(task.group_name);
                facts["observation_width"] = json!(task.observation_width());
                facts["action_width"] = json!(task.action_dim);
                facts["reward_scale"] = json!(task.reward_scale);
            }
            if let Some(env) = env {
                facts["env"] = json!(env.id);
                facts["env_kwargs"] = json!(env.kwargs);
                facts["reference_scores"] = json!(env.reference);
            }
            facts
        })
        .collect();
    let acts = match Conditioning::new(config, Device::Cpu) {
        _ if config.task.is_none() && !tasks.is_empty() => {
            "in one of its tasks, which `--task` names".to_owned()
        }
        Ok(_) => format!("with the statistics of {}", config.statistics_from),
        Err(missing) => format!("not yet: {missing}"),
    };
    let mut found = json!({ "kind": "policy", "format": format, "parameters": parameters, "acts": acts });
    if let (Value::Object(found), Value::Object(config)) = (&mut found, serde_json::to_value(config)?) {
        found.extend(config);
        if !tasks.is_empty() {
            found.insert("tasks".to_owned(), tasks.into());
        }
    }
    Ok(found)
}

/// An adapter's policy need not be at hand.
fn adapter(path: &Path) -> anyhow::Result<Value> {
    let (facts, adapters) = AdapterFolder::read(path, Device::Cpu).or_input()?;
    let sites: Vec<Value> = adapters
        .sites
        .iter()
        .map(|(site, lora)| json!({ "site": site.to_string(), "rank": lora.rank(), "scale": lora.scale }))
        .collect();
    let mut found = json!({
        "kind": "adapter",
        "base": facts.base,
        "base_fingerprint": facts.fingerprint,
        "origin": format!("{:?}", facts.origin),
        "rank": facts.rank,
        "alpha": facts.scaling.alpha,
        "rslora": facts.scaling.rank_stabilised,
        "dora": adapters.sites.values().any(|lora| lora.magnitude.is_some()),
        "parameters": adapters.parameter_count(),
        "sites": sites,
        "replaced": adapters.replaced.keys().collect::<Vec<_>>(),
    });
    if let Some(map) = EvaSummary::read(path) {
        found[MAP] = serde_json::to_value(map)?;
    }
    Ok(found)
}

fn dataset(path: &Path, reading: Reading) -> anyhow::Result<Value> {
    let dataset = data::read_named(path, reading)?;
    if let Some(faults) = dataset.faults() {
        tell(&format!("the dataset {path:?}: {faults}"));
    }
    let returns: Vec<f64> = dataset.trajectories.iter().map(Trajectory::total_return).collect();
    let count = returns.len() as f64;
    let mean_return = returns.iter().sum::<f64>() / count;
    let known = dataset.trajectories.iter().any(|trajectory| trajectory.succeeded.is_some());
    let succeeded =
        dataset.trajectories.iter().filter(|trajectory| trajectory.succeeded == Some(true)).count();
    let (mean, deviation) = data::observation_moments(std::slice::from_ref(&dataset));
    Ok(json!({
        "kind": "dataset",
        "env": dataset.env.as_ref().map(|(id, _)| id),
        "env_kwargs": dataset.env.as_ref().map(|(_, kwargs)| kwargs),
        "algorithm": dataset.algorithm,
        "episodes": dataset.trajectories.len(),
        "steps": dataset.steps(),
        "observation_width": dataset.observation_width,
        "image_shape": dataset.image,
        "action_space": dataset.action.to_string(),
        "mean_return": mean_return,
        "normalized_score": dataset.reference.map(|reference| reference.normalized(mean_return)),
        "reference_scores": dataset.reference,
        "least_return": returns.iter().copied().fold(f64::INFINITY, f64::min),
        "greatest_return": returns.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "success_rate": known.then_some(succeeded as f64 / count),
        "observation_mean": mean,
        "observation_std": deviation,
    }))
}

/// From where a run goes on.
fn resumable(path: &Path, checkpoint: Option<&Checkpoint>) -> String {
    if path.join("README.md").is_file() {
        return "it is finished".to_owned();
    }
    let from = checkpoint
        .map_or("its beginning".to_owned(), |checkpoint| format!("update {}", checkpoint.state.updates));
    format!("from {from}, with: eva-rl train --resume {path:?}")
}

fn run_folder(path: &Path) -> anyhow::Result<Value> {
    let (checkpoint, torn) = RunDir::open(path)?.latest()?;
    let evaluations = eva_rl_agents::read_text(&path.join("evaluation.json")).ok();
    let evaluations: Value =
        evaluations.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(json!([]));
    Ok(json!({
        "kind": "run",
        "updates": checkpoint.as_ref().map(|checkpoint| checkpoint.state.updates),
        "env_steps": checkpoint.as_ref().map(|checkpoint| checkpoint.state.env_steps),
        "best_mean_return": checkpoint.as_ref().and_then(|checkpoint| checkpoint.state.best),
        "elapsed_secs": checkpoint.as_ref().map(|checkpoint| checkpoint.state.elapsed_secs),
        "resumable": resumable(path, checkpoint.as_ref()),
        "torn_checkpoints": torn.iter().map(|torn| &torn.folder).collect::<Vec<_>>(),
        (EVALUATIONS): evaluations,
    }))
}
