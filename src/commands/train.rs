//! `train`: the whole run that a config describes.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cli::TrainArgs;
use crate::config::{self, Difference, OnlineConfig, RunPlan};
use crate::hub;
use crate::metrics::Recorder;
use crate::run_folder::{RunDir, RunState, Torn};
use crate::support::atomic::refuse_existing;
use crate::support::errors::{InputError, OrInput, tell};
use crate::support::{ranks, signals, threads};
use crate::training::{read_inputs, train};

/// Runs `train`.
pub fn run(args: TrainArgs) -> anyhow::Result<()> {
    if let Some(parent) = args.parent {
        signals::follow(parent).context("cannot follow --parent")?;
    }
    let world = ranks::world();
    let (run_dir, writer) = match &args.resume {
        Some(folder) => {
            let run_dir = RunDir::open(folder)?;
            let writer = if world.is_first() { Some(run_dir.lock()?) } else { None };
            (Some(run_dir), writer)
        }
        None => (None, None),
    };
    world.barrier(); // the first has tidied the folder
    let (resumed, torn) = match &run_dir {
        Some(run_dir) => run_dir.latest()?,
        None => (None, Vec::new()),
    };
    let state = resumed.as_ref().map(|checkpoint| checkpoint.state.clone()).unwrap_or_default();
    let (plan, changes) = plan(&args, &state)?;
    let folder = match (&args.resume, &args.out) {
        (Some(folder), _) | (None, Some(folder)) => folder.clone(),
        (None, None) => default_folder(&args, plan.seed),
    };
    if args.resume.is_none() {
        refuse_existing(&folder)?;
    }
    let plan = match plan.policy.source() {
        Some(path) => plan.with_commit(hub::commit(&path)?),
        None => plan,
    };
    let shares = plan.ranks.as_ref().is_some_and(|ranks| ranks.share_devices);
    let device = ranks::device(args.device, world, shares)?;
    let inputs = read_inputs(&plan, device, args.allow_imports)?;
    threads::for_passes(inputs.policy.config(), plan.optimiser.batch_size); // which may start the program again
    threads::for_eva(inputs.policy.config(), plan.optimiser.batch_size);
    signals::listen().context("cannot listen for signals")?;

    check_ranks(&plan, world.size())?;
    if let Some(own) = &plan.ranks {
        ranks::set_timeout(own.timeout_secs);
    }
    world.barrier(); // all have read what there is, and nothing is written yet
    for remark in plan.remarks() {
        tell(&format!("note: {remark}"));
    }
    if plan.online.is_some() && plan.shards_replay() && !world.is_alone() {
        tell(
            "note: each rank keeps its own episodes (`ranks.replay`): what is trained depends on how many ranks there are",
        );
    }
    for Torn { folder, reason } in &torn {
        tell(&format!(
            "{reason}; {folder:?} is put aside, and the run goes on from the checkpoint before it"
        ));
    }
    if !world.is_first() {
        let mut recorder = Recorder::silent(&folder)?;
        return train(&plan, inputs, &RunDir::follow(&folder), &mut recorder, resumed, args.json);
    }
    torn.iter().try_for_each(Torn::put_aside)?;
    let toml = config::to_toml(&plan);
    let run_dir = run_dir.map_or_else(|| RunDir::create(&folder, &toml), Ok)?;
    let _writer = writer.map_or_else(|| run_dir.lock(), Ok)?;
    if !changes.is_empty() {
        run_dir.reopen(&toml)?;
        changes.iter().for_each(|change| tell(&format!("changed: {}", change.change())));
    }
    let mut recorder = match &resumed {
        Some(checkpoint) => Recorder::resume(&folder, &checkpoint.state)?,
        None if args.resume.is_some() => Recorder::start_again(&folder)?,
        None => Recorder::create(&folder)?,
    };
    if resumed.is_none() {
        recorder.config(&toml, &serde_json::to_value(&*plan)?)?;
    }
    train(&plan, inputs, &run_dir, &mut recorder, resumed, args.json)
}

/// Refuses a run that is too small for so many ranks.
fn check_ranks(plan: &RunPlan, ranks: usize) -> anyhow::Result<()> {
    let (batch, num_envs) = (plan.optimiser.batch_size, plan.env.num_envs);
    let splits_round = plan.shards_replay() || matches!(plan.online, Some(OnlineConfig::Grpo(_)));
    let text = if batch < ranks {
        format!(
            "`optimiser.batch_size` is {batch}, and {ranks} ranks share it, expected at least one window for each"
        )
    } else if plan.online.is_some() && splits_round && num_envs < ranks {
        format!(
            "`env.num_envs` is {num_envs}, and {ranks} ranks train on their own episodes of a round, expected at least one for each"
        )
    } else {
        return Ok(());
    };
    Err(InputError(text).into())
}

/// The config with its overrides, checked, and what it changes of the run that it goes on with, which stands
/// at `state`.
fn plan(args: &TrainArgs, state: &RunState) -> anyhow::Result<(RunPlan, Vec<Difference>)> {
    let refuse = |text: String| -> anyhow::Error { InputError(text).into() };
    let mut overrides = args.overrides.clone();
    if let Some(seed) = args.seed {
        let mut other = overrides.iter().filter_map(|text| text.split_once('='));
        if let Some((_, other)) =
            other.rfind(|(key, value)| key.trim() == "seed" && value.trim() != seed.to_string())
        {
            return Err(refuse(format!("--seed {seed} contradicts --set seed={other}; give one of them")));
        }
        overrides.push(format!("seed={seed}"));
    }
    let Some(folder) = &args.resume else {
        let path = args.config.as_ref().ok_or_else(|| refuse("no CONFIG was given".to_owned()))?;
        return Ok((config::load_plan(path, &overrides).or_input()?, Vec::new()));
    };
    let own = RunDir::open(folder)?.config();
    let was = config::load(&own, &[]).or_input()?;
    let now = config::load_plan(args.config.as_ref().unwrap_or(&own), &overrides).or_input()?;
    let now = now.keep_commit_of(&was);
    let changes = config::differences(&was, &now);
    let refused: Vec<String> = changes
        .iter()
        .filter_map(|change| why_not(&change.key, &now, state).map(|why| format!("{change}{why}")))
        .collect();
    if !refused.is_empty() {
        return Err(refuse(format!("{folder:?} cannot go on with another config: {}", refused.join("; "))));
    }
    Ok((now, changes))
}

/// Why a key of a run that stands at `state` must stay as it is, if it must: what was done would have been
/// done otherwise.
fn why_not(key: &str, now: &RunPlan, state: &RunState) -> Option<String> {
    match key {
        "evaluation.every" | "evaluation.patience" | "checkpoint.every" | "checkpoint.keep" => None,
        key if key.starts_with("ranks") => None,
        "env.bridge.python" | "env.bridge.processes" | "env.bridge.timeout_secs" | "env.bridge.restarts" => {
            None
        }
        "offline.updates" if state.rounds > 0 => {
            Some(format!(", and {} rounds of exploration came after them", state.rounds))
        }
        "offline.updates" => {
            let fits = now.offline.updates >= state.updates;
            (!fits).then(|| format!(", and {} updates are done", state.updates))
        }
        key if key.starts_with("online.") && key.ends_with(".exploration.rounds") => {
            let rounds = now.online.as_ref().map_or(0, |online| online.exploration().rounds);
            (rounds < state.rounds).then(|| format!(", and {} rounds are done", state.rounds))
        }
        _ => Some(String::new()),
    }
}

fn default_folder(args: &TrainArgs, seed: u64) -> PathBuf {
    let stem = args.config.as_deref().and_then(Path::file_stem).unwrap_or_default().to_string_lossy();
    PathBuf::from(format!("runs/{stem}-seed{seed}"))
}
