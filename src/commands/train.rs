//! `train`: the whole run that a config describes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use eva_rl_agents::model::{Conditioning, Inputs, TransformerPolicy};
use eva_rl_envs::{EnvSpec, Kwargs, VecEnv};
use serde_json::Value;
use tch::Device;

use super::{print, print_json};
use crate::agent;
use crate::cli::TrainArgs;
use crate::config::{self, Difference, ObjectiveConfig, OnlineConfig, OnlineDtConfig, PolicyConfig, RunPlan};
use crate::data::{self, Dataset, Replay};
use crate::evaluation::{Evaluated, Task};
use crate::failure::{InputError, OrInput, env_failure, tell};
use crate::initialise::{
    TaskWindows, check_rank, check_tokens, initialise_adapters, new_policy, restore_adapters,
};
use crate::interrupt::{self, Stopped, unless_abandoned};
use crate::learner::Learner;
use crate::metrics::{self, Recorder};
use crate::model_card::{self, Facts};
use crate::online;
use crate::output::refuse_existing;
use crate::rng::{self, Purpose};
use crate::run::{Journal, Run};
use crate::run_dir::{Checkpoint, RunDir, RunState, Torn};
use crate::threads;

/// Batches by whose residuals actions begin to spread.
const INITIAL_STD_BATCHES: usize = 4;

/// What a run needs from outside, read and checked before anything is written.
struct Given {
    policy: TransformerPolicy,
    conditioning: Conditioning,
    /// What updates draw from.
    offline: Replay,
    /// What no update sees; may be nothing.
    validation: Replay,
    /// What evaluations play instead of the environment, if anything.
    tasks: Vec<Task>,
    env: Box<dyn VecEnv>,
}

/// Runs `train`.
pub fn run(args: TrainArgs) -> anyhow::Result<()> {
    if let Some(parent) = args.parent {
        interrupt::follow(parent).context("cannot follow --parent")?;
    }
    let (run_dir, writer) = match &args.resume {
        Some(folder) => {
            let run_dir = RunDir::open(folder)?;
            let writer = run_dir.lock()?;
            (Some(run_dir), Some(writer))
        }
        None => (None, None),
    };
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
    let given = read(&plan, args.device, args.allow_imports)?;
    threads::for_passes(given.policy.config(), plan.optimiser.batch_size); // which may start the program again
    threads::for_eva(given.policy.config(), plan.optimiser.batch_size);
    interrupt::listen().context("cannot listen for signals")?;

    for remark in plan.remarks() {
        tell(&format!("note: {remark}"));
    }
    for Torn { folder, reason } in &torn {
        tell(&format!(
            "{reason}; {folder:?} is put aside, and the run goes on from the checkpoint before it"
        ));
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
    train(&plan, given, &run_dir, &mut recorder, resumed, args.json)
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

/// Reads the policy, the data and the environment, and checks that they fit each other.
fn read(plan: &RunPlan, device: Device, allow_imports: bool) -> anyhow::Result<Given> {
    let env = eva_rl_envs::make_halves(&plan.env.id, &plan.env.kwargs, plan.env.num_envs, &plan.env.bridge())
        .map_err(env_failure)?;
    agent::check_actions(&env.spec().action, &format!("`{}`", plan.env.id))?;
    let datasets = read_datasets(plan, env.spec())?;
    let tasks = if plan.evaluation.on_datasets { tasks(plan, &datasets, allow_imports)? } else { Vec::new() };
    let (policy, mut conditioning) = match &plan.policy {
        PolicyConfig::Pretrained { path, statistics } => {
            let policy = agent::read_transformer(path, statistics.as_deref(), device)?;
            let conditioning = agent::conditioning(policy.config(), device, path)?;
            let whose = format!("`{}`", plan.env.id);
            agent::check_spaces(policy.config(), env.spec().observation_width(), &env.spec().action, &whose)?;
            (policy, conditioning)
        }
        PolicyConfig::New(new) => {
            rng::seed_torch(plan.seed, Purpose::Weights, 0);
            let policy = TransformerPolicy::new(new_policy(new, &datasets), device);
            let conditioning = Conditioning::new(policy.config(), device)?;
            (policy, conditioning)
        }
    };
    check_rank(plan, &policy)?;
    check_tokens(&plan.adapter, &policy)?;
    conditioning.target_return = plan.env.target_return.unwrap_or(conditioning.target_return);
    conditioning.return_cap = plan.rollout.max_return_to_go;
    check_split(plan, &datasets)?;
    tell_other_environments(plan, &datasets);
    if let PolicyConfig::Pretrained { .. } = &plan.policy {
        let trajectories = datasets.iter().flat_map(|dataset| &dataset.trajectories);
        agent::tell_far_states(policy.config(), trajectories, "the data");
    }
    agent::tell_long_episodes(policy.config(), env.spec());
    let (offline, validation) = split(plan, datasets);
    Ok(Given { policy, conditioning, offline, validation, tasks, env })
}

fn read_datasets(plan: &RunPlan, spec: &EnvSpec) -> anyhow::Result<Vec<Dataset>> {
    let mut datasets = Vec::new();
    for path in &plan.data.datasets {
        let dataset = data::read_with(path, plan.data.reading()).or_input()?;
        if let Some(faults) = dataset.faults() {
            tell(&format!("the dataset {path:?}: {faults}"));
        }
        if let Some(difference) = dataset.differs_from(spec) {
            return Err(InputError(format!("the dataset {path:?} {difference}")).into());
        }
        datasets.push(dataset);
    }
    Ok(datasets)
}

/// Says so where data was recorded in another environment than the run plays.
fn tell_other_environments(plan: &RunPlan, datasets: &[Dataset]) {
    if plan.evaluation.on_datasets {
        return;
    }
    let recorded = plan.data.datasets.iter().zip(datasets);
    let differences = recorded.filter_map(|(path, dataset)| {
        let (id, kwargs) = dataset.env.as_ref()?;
        Some(format!("{path:?} {}", env_difference(plan, id, kwargs)?))
    });
    let others: Vec<String> = differences.collect();
    if let [first, others @ ..] = others.as_slice() {
        let more = if others.is_empty() {
            String::new()
        } else {
            format!("; and {} more datasets differ", others.len())
        };
        tell(&format!("the environments of data and run differ: {first}{more}"));
    }
}

/// How the environment in which a dataset was recorded differs from the run's, where it does.
fn env_difference(plan: &RunPlan, id: &str, kwargs: &Kwargs) -> Option<String> {
    let own = &plan.env;
    if id != own.id {
        return Some(format!("was recorded in `{id}`, and the run plays `{}`", own.id));
    }
    let value = |kwargs: &Kwargs, name: &str| kwargs.get(name).cloned();
    let same = |a: &Value, b: &Value| a == b || a.as_f64().is_some_and(|a| b.as_f64() == Some(a));
    let names = kwargs.keys().chain(own.kwargs.keys()).filter(|name| *name != "render_mode");
    let differing = names.filter(|name| match (value(kwargs, name), value(&own.kwargs, name)) {
        (Some(theirs), Some(ours)) => !same(&theirs, &ours),
        _ => true,
    });
    let said =
        |kwargs: &Kwargs, name: &str| value(kwargs, name).map_or("the default".to_owned(), |v| v.to_string());
    let differing: Vec<String> = differing
        .map(|name| format!("{name} = {}, and the run has {}", said(kwargs, name), said(&own.kwargs, name)))
        .collect();
    let first = differing.first()?;
    Some(format!("was recorded with {first}"))
}

/// Each dataset's environment with the dataset's best return.
fn tasks(plan: &RunPlan, datasets: &[Dataset], allow_imports: bool) -> anyhow::Result<Vec<Task>> {
    let task = |(path, dataset): (&PathBuf, &Dataset)| {
        let (env, kwargs) = dataset.env.clone().ok_or_else(|| {
            let wanted = "which `evaluation.on_datasets` wants to play";
            InputError(format!("the dataset {path:?} does not name its environment, {wanted}"))
        })?;
        if let Some((module, _)) = env.strip_prefix("gymnasium:").and_then(|id| id.split_once(':'))
            && !allow_imports
        {
            return Err(InputError(format!(
                "the dataset {path:?} names the environment `{env}`, for which Python would import the module `{module}`; --allow-imports says that you trust it"
            ))
            .into());
        }
        let returns = dataset.trajectories.iter().map(|trajectory| trajectory.total_return() as f32);
        let target_return = returns.reduce(f32::max).expect("a dataset has at least one trajectory");
        Ok(Task { env, kwargs, target_return })
    };
    plan.data.datasets.iter().zip(datasets).map(task).collect()
}

/// Refuses to keep more episodes for validation than a dataset has.
fn check_split(plan: &RunPlan, datasets: &[Dataset]) -> anyhow::Result<()> {
    let held_out = plan.data.validation_episodes;
    for (path, dataset) in plan.data.datasets.iter().zip(datasets) {
        let episodes = dataset.trajectories.len();
        if held_out >= episodes {
            return Err(InputError(format!(
                "`data.validation_episodes` is {held_out}, and must be less than the {episodes} episodes of {path:?}"
            ))
            .into());
        }
    }
    Ok(())
}

/// The episodes that updates draw from, and those kept for validation.
fn split(plan: &RunPlan, datasets: Vec<Dataset>) -> (Replay, Replay) {
    let (width, action_width) = (datasets[0].observation_width, datasets[0].action.width());
    let count = datasets.iter().map(|dataset| dataset.trajectories.len()).sum();
    let mut offline = Replay::new(count, width, action_width);
    let mut validation = Replay::new(count, width, action_width);
    let held_out = plan.data.validation_episodes;
    for dataset in datasets {
        let episodes = dataset.trajectories.len();
        for (number, episode) in dataset.trajectories.into_iter().enumerate() {
            let replay = if number < episodes - held_out { &mut offline } else { &mut validation };
            replay.push(episode);
        }
        if plan.data.evenly {
            offline.end_part();
            validation.end_part();
        }
    }
    (offline, validation)
}

/// The run itself: initialisation, offline updates, and what follows online.
fn train(
    plan: &RunPlan,
    given: Given,
    run_dir: &RunDir,
    recorder: &mut Recorder,
    resumed: Option<Checkpoint>,
    json: bool,
) -> anyhow::Result<()> {
    let Given { policy, conditioning, offline, validation, tasks, env } = given;
    let (count, steps) = (offline.trajectories().count(), offline.steps());
    let adapters = match &resumed {
        Some(checkpoint) => restore_adapters(plan, &policy, &checkpoint.tensors).or_input()?,
        None => {
            let windows = TaskWindows::new(&conditioning, &offline, plan.optimiser.batch_size, plan.seed);
            let begun = initialise_adapters(plan, &policy, windows, run_dir, recorder);
            unless_abandoned(begun)?.ok_or_else(|| Stopped {
                signal: interrupt::asked().expect("nothing else abandons it"),
                text: format!(
                    "while the adapters were initialised: nothing was trained yet; begin with: eva-rl train --resume {:?}",
                    run_dir.root()
                ),
            })?
        }
    };
    let policy = match &resumed {
        Some(checkpoint) if adapters.is_none() => checkpoint.policy(policy.device())?,
        _ => policy,
    };
    threads::for_passes(policy.config(), plan.optimiser.batch_size);
    let mut learner = Learner::new(policy, adapters, plan);
    let (mut state, mut evaluations, mut saved) = (RunState::default(), Vec::new(), HashMap::new());
    let total = plan.total_updates();
    if resumed.is_none() {
        start_spread(plan, &learner, &conditioning, &offline, recorder)?;
    }
    if let Some(checkpoint) = resumed {
        learner.load_state(&checkpoint.tensors).or_input()?;
        (state, saved) = (checkpoint.state, checkpoint.tensors);
        evaluations = std::mem::take(&mut state.evaluations);
        if evaluations.is_empty() && run_dir.root().join("evaluation.json").exists() {
            // A checkpoint from before they were kept there.
            evaluations = run_dir.evaluations()?;
            evaluations.retain(|evaluated| evaluated.updates <= state.updates);
        }
        tell(&format!("going on from update {} of {total}", state.updates));
    }
    let journal = Journal::new(run_dir, recorder, evaluations, &state, total);
    let mut run = Run { plan, learner, conditioning, env, tasks, validation, state, saved, journal };
    run.learn_what_was_reached();
    run.tell_targets(&offline);

    if imitate(&mut run, &offline)? {
        match &plan.online {
            None => {}
            Some(OnlineConfig::Odt(odt)) => online::odt(&mut run, odt, offline)?,
            Some(OnlineConfig::Td3Odt(td3)) => online::td3_odt(&mut run, td3, offline)?,
            Some(OnlineConfig::Grpo(grpo)) => online::grpo(&mut run, grpo)?,
            Some(OnlineConfig::FilteredBc(bc)) => online::filtered_bc(&mut run, bc, offline)?,
        }
    }
    let Run { learner, state, journal, .. } = run;
    let facts = Facts { trajectories: count, steps, evaluations: &journal.evaluations, state: &state };
    run_dir.write("README.md", &model_card::text(plan, run_dir, &learner, &facts))?;
    summarise(run_dir, &journal.evaluations, &state, json)
}

/// Finds the deviations by which a new run's actions begin to spread, where its config names none.
fn start_spread(
    plan: &RunPlan,
    learner: &Learner,
    conditioning: &Conditioning,
    offline: &Replay,
    recorder: &mut Recorder,
) -> anyhow::Result<()> {
    let ObjectiveConfig::OnlineDt(OnlineDtConfig { initial_std: None, .. }) = plan.objective else {
        return Ok(());
    };
    let batches: Vec<Inputs> = (0..INITIAL_STD_BATCHES)
        .map(|batch| {
            let mut draw = rng::generator(plan.seed, Purpose::InitialStd, batch);
            let windows = offline.sample(plan.optimiser.batch_size, conditioning.context_length, &mut draw);
            conditioning.inputs(&windows.view())
        })
        .collect();
    if let Some(std) = learner.start_spread(&batches) {
        let all: Vec<String> = std.iter().map(|std| format!("{std:.3}")).collect();
        tell(&format!("initial std of the actions, from the policy's residuals: {}", all.join(" ")));
        let mean = f64::from(std.iter().sum::<f32>()) / std.len() as f64;
        recorder.scalar(metrics::ACTION_STD, 0, mean)?;
    }
    Ok(())
}

/// The updates on the offline trajectories; false where the run ends with them.
fn imitate(run: &mut Run, offline: &Replay) -> anyhow::Result<bool> {
    loop {
        if run.state.updates >= run.plan.offline.updates && run.plan.online.is_some() {
            return Ok(true);
        }
        if !run.tend(Vec::new)? {
            return Ok(false);
        }
        let inputs = run.conditioning.inputs(&run.windows(offline).view());
        let objective = run.learner.objective(&inputs);
        run.step(&inputs, &objective)?;
    }
}

fn summarise(
    run_dir: &RunDir,
    evaluations: &[Evaluated],
    state: &RunState,
    json: bool,
) -> anyhow::Result<()> {
    let (first, last) = (&evaluations[0], &evaluations[evaluations.len() - 1]);
    if json {
        return print_json(&serde_json::json!({
            "run": run_dir.root(), "state": state, "before": first, "after": last,
        }));
    }
    let (first, last) = (&first.targets[0], &last.targets[0]);
    print(&format!("before: {}", first.line()))?;
    print(&format!("after:  {}", last.line()))?;
    let root = run_dir.root().display();
    print(&format!(
        "{} updates and {} environment steps in {:.0} s; the best policy is in {root}/best",
        state.updates, state.env_steps, state.elapsed_secs
    ))?;
    print(&format!("see the curves with: tensorboard --logdir {root}"))
}
