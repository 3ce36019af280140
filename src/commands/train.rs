//! `train`: the whole run that a config describes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use eva_rl_agents::model::{Conditioning, DecisionTransformer};
use eva_rl_envs::{EnvSpec, VecEnv};
use tch::Device;

use super::print;
use crate::agent;
use crate::cli::TrainArgs;
use crate::config::{self, OnlineConfig, PolicyConfig, RunPlan};
use crate::data::{self, Dataset, Replay};
use crate::evaluation::{Evaluated, Task};
use crate::failure::{InputError, OrInput, tell};
use crate::initialise::{Material, check_rank, initialise_adapters, new_policy, restore_adapters};
use crate::interrupt;
use crate::learner::Learner;
use crate::metrics::Recorder;
use crate::model_card::{self, Facts};
use crate::online;
use crate::output::refuse_existing;
use crate::rng::{self, Purpose};
use crate::run::{Journal, Run};
use crate::run_dir::{Checkpoint, RunDir, RunState, Torn};

/// What a run needs from outside, read and checked before anything is written.
struct Given {
    policy: DecisionTransformer,
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
    let plan = plan(&args)?;
    let folder = match (&args.resume, &args.out) {
        (Some(folder), _) | (None, Some(folder)) => folder.clone(),
        (None, None) => default_folder(&args, plan.seed),
    };
    let (resumed, torn) = match &args.resume {
        Some(folder) => RunDir::open(folder)?.latest()?,
        None => (None, Vec::new()),
    };
    if args.resume.is_none() {
        refuse_existing(&folder)?;
    }
    let given = read(&plan, args.device)?;
    interrupt::listen().context("cannot listen for Ctrl-C")?;

    for Torn { folder, reason } in &torn {
        tell(&format!(
            "{reason}; {folder:?} is put aside, and the run goes on from the checkpoint before it"
        ));
    }
    torn.iter().try_for_each(Torn::put_aside)?;
    let toml = config::to_toml(&plan);
    let run_dir = match &args.resume {
        Some(folder) => RunDir::open(folder)?,
        None => RunDir::create(&folder, &toml)?,
    };
    let mut recorder = match &resumed {
        Some(checkpoint) => Recorder::resume(&folder, &checkpoint.state)?,
        None if args.resume.is_some() => Recorder::start_again(&folder)?,
        None => Recorder::create(&folder)?,
    };
    if resumed.is_none() {
        recorder.config(&toml, &serde_json::to_value(&*plan)?)?;
    }
    train(&plan, given, &run_dir, &mut recorder, resumed)
}

/// The config with its overrides, checked; a resumed run takes its own.
fn plan(args: &TrainArgs) -> anyhow::Result<RunPlan> {
    let mut overrides = args.overrides.clone();
    overrides.extend(args.seed.map(|seed| format!("seed={seed}")));
    let given = match &args.config {
        Some(path) => Some(config::load(path, &overrides).or_input()?),
        None if overrides.is_empty() => None,
        None => {
            return Err(InputError("--set and --seed change a CONFIG, and none was given".to_owned()).into());
        }
    };
    let config = match &args.resume {
        None => given.ok_or_else(|| InputError("no CONFIG was given".to_owned()))?,
        Some(folder) => {
            let own = config::load(&RunDir::open(folder)?.config(), &[]).or_input()?;
            if given.is_some_and(|given| given != own) {
                let text = format!(
                    "the config differs from the one that {folder:?} was begun with; leave CONFIG out"
                );
                return Err(InputError(text).into());
            }
            own
        }
    };
    config.plan().or_input()
}

fn default_folder(args: &TrainArgs, seed: u64) -> PathBuf {
    let stem = args.config.as_deref().and_then(Path::file_stem).unwrap_or_default().to_string_lossy();
    PathBuf::from(format!("runs/{stem}-seed{seed}"))
}

/// Reads the policy, the data and the environment, and checks that they fit each other.
fn read(plan: &RunPlan, device: Device) -> anyhow::Result<Given> {
    let env = eva_rl_envs::make_halves(&plan.env.id, &plan.env.kwargs, plan.env.num_envs, &plan.env.bridge())
        .or_input()?;
    agent::check_actions(&env.spec().action, &format!("`{}`", plan.env.id))?;
    let datasets = read_datasets(plan, env.spec())?;
    let tasks = if plan.evaluation.on_datasets { tasks(plan, &datasets)? } else { Vec::new() };
    let (policy, conditioning) = match &plan.policy {
        PolicyConfig::Pretrained { path, statistics } => {
            let policy = agent::read_transformer(path, statistics.as_deref(), device)?;
            let conditioning = agent::conditioning(policy.config(), device, path)?;
            let whose = format!("`{}`", plan.env.id);
            agent::check_spaces(policy.config(), env.spec().observation_width(), &env.spec().action, &whose)?;
            (policy, conditioning)
        }
        PolicyConfig::New(new) => {
            rng::seed_torch(plan.seed, Purpose::Weights, 0);
            let policy = DecisionTransformer::new(new_policy(new, &datasets), device);
            let conditioning = Conditioning::new(policy.config(), device)?;
            (policy, conditioning)
        }
    };
    check_rank(plan, &policy)?;
    let (offline, validation) = split(plan, datasets)?;
    Ok(Given { policy, conditioning, offline, validation, tasks, env })
}

fn read_datasets(plan: &RunPlan, spec: &EnvSpec) -> anyhow::Result<Vec<Dataset>> {
    let mut datasets = Vec::new();
    for path in &plan.data.datasets {
        let dataset = data::read(path).or_input()?;
        if let Some(difference) = dataset.differs_from(spec) {
            return Err(InputError(format!("the dataset {path:?} {difference}")).into());
        }
        datasets.push(dataset);
    }
    Ok(datasets)
}

/// Each dataset's environment with the dataset's best return.
fn tasks(plan: &RunPlan, datasets: &[Dataset]) -> anyhow::Result<Vec<Task>> {
    let task = |(path, dataset): (&PathBuf, &Dataset)| {
        let (env, kwargs) = dataset.env.clone().ok_or_else(|| {
            let wanted = "which `evaluation.on_datasets` wants to play";
            InputError(format!("the dataset {path:?} does not name its environment, {wanted}"))
        })?;
        let returns = dataset.trajectories.iter().map(|trajectory| trajectory.total_return() as f32);
        let target_return = returns.reduce(f32::max).expect("a dataset has at least one trajectory");
        Ok(Task { env, kwargs, target_return })
    };
    plan.data.datasets.iter().zip(datasets).map(task).collect()
}

/// The episodes that updates draw from, and those kept for validation.
fn split(plan: &RunPlan, datasets: Vec<Dataset>) -> anyhow::Result<(Replay, Replay)> {
    let (width, action_width) = (datasets[0].observation_width, datasets[0].action.width());
    let count = datasets.iter().map(|dataset| dataset.trajectories.len()).sum();
    let mut offline = Replay::new(count, width, action_width);
    let mut validation = Replay::new(count, width, action_width);
    let held_out = plan.data.validation_episodes;
    for (path, dataset) in plan.data.datasets.iter().zip(datasets) {
        let episodes = dataset.trajectories.len();
        if held_out >= episodes {
            return Err(InputError(format!(
                "`data.validation_episodes` is {held_out}, and must be less than the {episodes} episodes of {path:?}"
            ))
            .into());
        }
        for (number, episode) in dataset.trajectories.into_iter().enumerate() {
            let replay = if number < episodes - held_out { &mut offline } else { &mut validation };
            replay.push(episode);
        }
        if plan.data.evenly {
            offline.end_part();
            validation.end_part();
        }
    }
    Ok((offline, validation))
}

/// The run itself: initialisation, offline updates, and what follows online.
fn train(
    plan: &RunPlan,
    given: Given,
    run_dir: &RunDir,
    recorder: &mut Recorder,
    resumed: Option<Checkpoint>,
) -> anyhow::Result<()> {
    let Given { policy, conditioning, offline, validation, tasks, env } = given;
    let (count, steps) = (offline.trajectories().count(), offline.steps());
    let adapters = match &resumed {
        Some(checkpoint) => restore_adapters(plan, &policy, &checkpoint.tensors)?,
        None => {
            let material = Material { policy: &policy, conditioning: &conditioning, offline: &offline };
            initialise_adapters(plan, &material, run_dir, recorder)?
        }
    };
    let policy = match &resumed {
        Some(checkpoint) if adapters.is_none() => {
            agent::read_transformer(&checkpoint.folder.join("policy"), None, policy.device())?
        }
        _ => policy,
    };
    let mut learner = Learner::new(policy, adapters, plan);
    let (mut state, mut evaluations, mut saved) = (RunState::default(), Vec::new(), HashMap::new());
    let total = plan.total_updates();
    if let Some(checkpoint) = resumed {
        learner.load_state(&checkpoint.tensors)?;
        (state, saved) = (checkpoint.state, checkpoint.tensors);
        evaluations = run_dir.evaluations(state.updates)?;
        tell(&format!("going on from update {} of {total}", state.updates));
    }
    let journal = Journal::new(run_dir, recorder, evaluations, &state, total);
    let mut run = Run { plan, learner, conditioning, env, tasks, validation, state, saved, journal };

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
    summarise(run_dir, &journal.evaluations, &state)
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

fn summarise(run_dir: &RunDir, evaluations: &[Evaluated], state: &RunState) -> anyhow::Result<()> {
    let (first, last) = (&evaluations[0].targets[0], &evaluations[evaluations.len() - 1].targets[0]);
    print(&format!("before: {}", first.line()))?;
    print(&format!("after:  {}", last.line()))?;
    let root = run_dir.root().display();
    print(&format!(
        "{} updates and {} environment steps in {:.0} s; the best policy is in {root}/best",
        state.updates, state.env_steps, state.elapsed_secs
    ))?;
    print(&format!("see the curves with: tensorboard --logdir {root}"))
}
