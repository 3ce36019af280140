//! `train`: the whole run that a config describes.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use eva_rl_agents::adapter::{self, AdapterFolder, AdapterSet, Origin};
use eva_rl_agents::eva::{Eva, Settings};
use eva_rl_agents::model::{ActionKind, Conditioning, DecisionTransformer, PolicyConfig as HfConfig};
use eva_rl_envs::{ActionSpace, Phase, VecEnv};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::print;
use crate::agent;
use crate::cli::TrainArgs;
use crate::config::{self, AdapterConfig, EvaConfig, NewPolicyConfig, PolicyConfig, RunPlan};
use crate::data::{self, Dataset, Replay, Trajectory};
use crate::evaluation::{Evaluation, evaluate};
use crate::failure::{InputError, OrInput, refuse_existing, tell};
use crate::interrupt;
use crate::learner::Learner;
use crate::metrics::{self, Recorder};
use crate::model_card;
use crate::rng::{self, Purpose};
use crate::rollout::{self, PolicyActor};
use crate::run_dir::{Checkpoint, RunDir, RunState};

/// Updates between two records of the training numbers.
const RECORD_EVERY: usize = 10;

/// What a run needs from outside, read and checked before anything is written.
struct Given {
    policy: DecisionTransformer,
    conditioning: Conditioning,
    dataset: Dataset,
    env: Box<dyn VecEnv>,
}

/// An evaluation and the update after which it was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Evaluated {
    /// Updates done.
    pub updates: usize,
    /// One entry a target return.
    pub targets: Vec<Evaluation>,
}

/// Runs `train`.
pub fn run(args: TrainArgs) -> anyhow::Result<()> {
    let plan = plan(&args)?;
    let folder = match (&args.resume, &args.out) {
        (Some(folder), _) | (None, Some(folder)) => folder.clone(),
        (None, None) => default_folder(&args, plan.seed),
    };
    let resumed = match &args.resume {
        Some(folder) => RunDir::open(folder)?.latest()?,
        None => None,
    };
    if args.resume.is_none() {
        refuse_existing(&folder)?;
    }
    let given = read(&plan, args.device)?;
    interrupt::listen().context("cannot listen for Ctrl-C")?;

    let toml = config::to_toml(&plan);
    let run_dir = match &args.resume {
        Some(folder) => RunDir::open(folder)?,
        None => RunDir::create(&folder, &toml)?,
    };
    let mut recorder = match &resumed {
        Some(checkpoint) => Recorder::resume(&folder, checkpoint.state.updates)?,
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
    let env = eva_rl_envs::make(&plan.env.id, &plan.env.kwargs, plan.env.num_envs).or_input()?;
    let mut datasets = Vec::new();
    for path in &plan.data.datasets {
        let dataset = data::read(path).or_input()?;
        if let Some(difference) = dataset.differs_from(env.spec()) {
            return Err(InputError(format!("the dataset {path:?} {difference}")).into());
        }
        datasets.push(dataset);
    }
    let mut dataset = datasets.swap_remove(0);
    for other in datasets {
        dataset.trajectories.extend(other.trajectories);
    }
    let (policy, conditioning) = match &plan.policy {
        PolicyConfig::Pretrained { path } => {
            let policy = agent::read_policy(path, device)?;
            let whose = format!("`{}`", plan.env.id);
            agent::check_spaces(policy.config(), env.spec().observation_width(), &env.spec().action, &whose)?;
            let conditioning = agent::conditioning(&policy, path)?;
            (policy, conditioning)
        }
        PolicyConfig::New(new) => {
            rng::seed_torch(plan.seed, Purpose::Weights, 0);
            let policy = DecisionTransformer::new(new_policy(new, &dataset), device);
            let conditioning = Conditioning::new(policy.config(), device)?;
            (policy, conditioning)
        }
    };
    Ok(Given { policy, conditioning, dataset, env })
}

/// The config of a new policy, normalised by its data.
fn new_policy(new: &NewPolicyConfig, dataset: &Dataset) -> HfConfig {
    let (mean, deviation) = dataset.observation_moments();
    let (act_dim, action_kind, low, high) = match &dataset.action {
        ActionSpace::Discrete { n } => (*n, ActionKind::Discrete, None, None),
        ActionSpace::Box { low, high } => {
            (low.len(), ActionKind::Continuous, Some(low.clone()), Some(high.clone()))
        }
    };
    HfConfig {
        state_dim: dataset.observation_width as i64,
        act_dim: act_dim as i64,
        hidden_size: new.hidden_size,
        max_ep_len: new.max_episode_length,
        action_tanh: action_kind == ActionKind::Continuous,
        n_positions: 3 * new.context_length,
        n_layer: new.layers,
        n_head: new.heads,
        resid_pdrop: new.dropout,
        embd_pdrop: new.dropout,
        attn_pdrop: new.dropout,
        action_kind,
        context_length: Some(new.context_length),
        state_mean: Some(mean),
        state_std: Some(deviation),
        return_scale: Some(new.return_scale),
        target_return: Some(new.target_return),
        max_return_to_go: dataset.max_return_to_go(),
        action_low: low,
        action_high: high,
        ..HfConfig::default()
    }
}

/// The run itself: initialisation, offline updates, rounds of exploration and updates.
fn train(
    plan: &RunPlan,
    given: Given,
    run_dir: &RunDir,
    recorder: &mut Recorder,
    resumed: Option<Checkpoint>,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let Given { policy, conditioning, dataset, mut env } = given;
    let (observation_width, action_width) = (dataset.observation_width, dataset.action.width());
    let total = plan.total_updates();

    let mut offline = Replay::new(dataset.trajectories.len(), observation_width, action_width);
    dataset.trajectories.iter().for_each(|trajectory| offline.push(trajectory.clone()));
    let adapters = match &resumed {
        Some(checkpoint) => restore_adapters(plan, &policy, &checkpoint.folder)?,
        None => initialise_adapters(plan, &policy, &conditioning, &offline, recorder)?,
    };
    let policy = match &resumed {
        Some(checkpoint) if adapters.is_none() => {
            agent::read_policy(&checkpoint.folder.join("policy"), policy.device())?
        }
        _ => policy,
    };
    let mut learner = Learner::new(policy, adapters, plan);
    let mut replay = None;
    let mut state = RunState {
        updates: 0,
        rounds: 0,
        env_steps: 0,
        best: None,
        elapsed_secs: 0.0,
        replay_lengths: Vec::new(),
    };
    let mut evaluations = Vec::new();
    if let Some(checkpoint) = resumed {
        learner.load_state(&checkpoint.tensors)?;
        state = checkpoint.state;
        replay = read_replay(plan, &state, &checkpoint.tensors, observation_width, action_width)?;
        evaluations = read_evaluations(run_dir, state.updates)?;
        tell(&format!("going on from update {} of {total}", state.updates));
    }
    let earlier_secs = state.elapsed_secs;

    let bar = ProgressBar::new(total as u64).with_position(state.updates as u64);
    bar.set_style(
        ProgressStyle::with_template("{wide_bar} update {pos}/{len} {msg} eta {eta}")
            .expect("the template is well-formed"),
    );
    let say = |text: &str| bar.suspend(|| tell(text));
    let mut losses = Vec::new();
    loop {
        let last = state.updates == total;
        let evaluated = evaluations.last().is_some_and(|e: &Evaluated| e.updates == state.updates);
        if (state.updates.is_multiple_of(plan.evaluation.every) || last) && !evaluated {
            let acting = learner.acting();
            let seed = rng::seed(plan.seed, Purpose::Evaluation, 0);
            let (episodes, targets) = (plan.evaluation.episodes, &plan.evaluation.target_returns);
            let targets = evaluate(&acting, &conditioning, env.as_mut(), episodes, targets, seed)?;
            record_evaluation(recorder, state.updates, &targets[0])?;
            say(&format!("update {:>6}: {}", state.updates, targets[0].line()));
            if state.best.is_none_or(|best| targets[0].mean_return > best) {
                state.best = Some(targets[0].mean_return);
                run_dir.save_best(|folder| learner.write(folder))?;
            }
            evaluations.push(Evaluated { updates: state.updates, targets });
            run_dir.write("evaluation.json", &(serde_json::to_string_pretty(&evaluations)? + "\n"))?;
        }
        let stopping = interrupt::asked() && !last;
        if (state.updates > 0 && state.updates.is_multiple_of(plan.checkpoint.every)) || last || stopping {
            recorder.flush()?;
            state.elapsed_secs = earlier_secs + started.elapsed().as_secs_f64();
            save(run_dir, &mut state, &learner, replay.as_ref())?;
        }
        if stopping {
            bar.finish_and_clear();
            let folder = run_dir.root();
            anyhow::bail!("stopped at update {} of {total}; go on with --resume {folder:?}", state.updates);
        }
        if last {
            break;
        }

        if let Some(online) = &plan.online {
            let due = plan.offline.updates + state.rounds * online.updates_per_round;
            if state.updates == due {
                let replay = replay.get_or_insert_with(|| {
                    let mut replay = Replay::new(online.replay_capacity, observation_width, action_width);
                    replay.push_best(&dataset.trajectories);
                    replay
                });
                let acting = learner.acting();
                let begun = Instant::now();
                let space = env.spec().action.clone();
                let mut actor = PolicyActor::new(
                    &acting,
                    &conditioning,
                    learner.head.as_ref(),
                    online.target_return,
                    &space,
                );
                let seed = rng::seed(plan.seed, Purpose::Exploration, state.rounds);
                let episodes = rollout::play(env.as_mut(), &mut actor, plan.env.num_envs, seed)?;
                let steps: usize = episodes.iter().map(Trajectory::len).sum();
                state.env_steps += steps;
                state.rounds += 1;
                let speed = steps as f64 / begun.elapsed().as_secs_f64();
                let explored = Evaluation::of(&episodes, env.spec(), Some(online.target_return));
                record_exploration(recorder, &state, &explored, speed)?;
                bar.set_message(format!("explored {:.0}", explored.mean_return));
                // Hindsight: a trajectory is relabelled with the return that it did earn.
                episodes.into_iter().for_each(|episode| replay.push(episode));
            }
        }

        let mut windows_rng = rng::generator(plan.seed, Purpose::UpdateWindows, state.updates);
        let source = replay.as_ref().unwrap_or(&offline);
        let windows = source.sample(plan.optimiser.batch_size, conditioning.context_length, &mut windows_rng);
        rng::seed_torch(plan.seed, Purpose::UpdateNoise, state.updates);
        let inputs = conditioning.inputs(&windows.view());
        let report = learner.update(&inputs, state.updates, total, &plan.optimiser);
        if !report.loss.is_finite() || !report.grad_norm.is_finite() {
            anyhow::bail!(
                "update {} has loss {} and gradient norm {}; the last checkpoint in {:?} is whole",
                state.updates,
                report.loss,
                report.grad_norm,
                run_dir.root()
            );
        }
        state.updates += 1;
        bar.inc(1);
        losses.push(report.loss);
        if state.updates.is_multiple_of(RECORD_EVERY) {
            let mean = losses.drain(..).sum::<f64>() / RECORD_EVERY as f64;
            recorder.scalar(metrics::LOSS, state.updates, mean)?;
            recorder.scalar(metrics::LEARNING_RATE, state.updates, report.learning_rate)?;
            recorder.scalar(metrics::GRAD_NORM, state.updates, report.grad_norm)?;
            if let Some(online) = report.online {
                recorder.scalar(metrics::LOG_LIKELIHOOD, state.updates, online.log_likelihood)?;
                recorder.scalar(metrics::ENTROPY, state.updates, online.entropy)?;
                recorder.scalar(metrics::TEMPERATURE, state.updates, online.temperature)?;
            }
        }
    }
    bar.finish_and_clear();
    recorder.flush()?;
    run_dir.write("README.md", &model_card::text(plan, run_dir, &learner, &dataset, &evaluations, &state))?;
    summarise(run_dir, &evaluations, &state)
}

/// Adapters as the config wants them at the start; nothing in full fine-tuning.
fn initialise_adapters(
    plan: &RunPlan,
    policy: &DecisionTransformer,
    conditioning: &Conditioning,
    offline: &Replay,
    recorder: &mut Recorder,
) -> anyhow::Result<Option<(AdapterFolder, AdapterSet)>> {
    let base = match &plan.policy {
        PolicyConfig::Pretrained { path } => path.display().to_string(),
        PolicyConfig::New(_) => String::new(),
    };
    match &plan.adapter {
        AdapterConfig::FullFineTuning {} => Ok(None),
        AdapterConfig::Lora(lora) => {
            rng::seed_torch(plan.seed, Purpose::Weights, 1);
            let mut adapters = AdapterSet { dropout: lora.dropout, ..AdapterSet::default() };
            for site in policy.sites() {
                let (input, output) = policy.site_shape(site).expect("a site of this policy");
                let adapter = adapter::lora(input, output, lora.rank, lora.alpha, policy.device());
                adapters.sites.insert(site, adapter);
            }
            let facts =
                AdapterFolder { base, rank: lora.rank.get(), alpha: lora.alpha, origin: Origin::Lora };
            Ok(Some((facts, adapters)))
        }
        AdapterConfig::Eva(eva) => {
            let EvaConfig { lora, rho, tau, max_batches } = eva;
            let begun = Instant::now();
            let settings = Settings { rank: lora.rank, alpha: lora.alpha, rho: *rho, tau: *tau };
            let mut search = Eva::new(policy, &policy.sites(), settings);
            let mut settled = 0.0;
            while settled < 1.0 && search.batches() < *max_batches {
                let mut windows_rng = rng::generator(plan.seed, Purpose::EvaWindows, search.batches());
                let windows =
                    offline.sample(plan.optimiser.batch_size, conditioning.context_length, &mut windows_rng);
                settled = search.observe(policy, &conditioning.inputs(&windows.view())).or_input()?;
                recorder.scalar(metrics::EVA_SETTLED, search.batches(), settled)?;
            }
            let batches = search.batches();
            let (adapters, reports) = search.finish(policy, lora.dropout);
            recorder.sites(&reports)?;
            tell(&format!(
                "EVA: {} sites, {:.0}% settled after {batches} batches, {:.1} s",
                reports.len(),
                100.0 * settled,
                begun.elapsed().as_secs_f64()
            ));
            let origin = Origin::Eva { rho: *rho, tau: *tau };
            Ok(Some((AdapterFolder { base, rank: lora.rank.get(), alpha: lora.alpha, origin }, adapters)))
        }
    }
}

fn restore_adapters(
    plan: &RunPlan,
    policy: &DecisionTransformer,
    checkpoint: &Path,
) -> anyhow::Result<Option<(AdapterFolder, AdapterSet)>> {
    match &plan.adapter {
        AdapterConfig::FullFineTuning {} => Ok(None),
        AdapterConfig::Lora(_) | AdapterConfig::Eva(_) => {
            agent::read_adapter(&checkpoint.join("adapter"), policy).map(Some)
        }
    }
}

fn save(
    run_dir: &RunDir,
    state: &mut RunState,
    learner: &Learner,
    replay: Option<&Replay>,
) -> anyhow::Result<()> {
    let mut tensors = learner.state();
    state.replay_lengths.clear();
    if let Some(replay) = replay {
        let (mut observations, mut actions, mut rewards) = (vec![], vec![], vec![]);
        for trajectory in replay.trajectories() {
            state.replay_lengths.push(trajectory.len());
            observations.extend_from_slice(&trajectory.observations);
            actions.extend_from_slice(&trajectory.actions);
            rewards.extend_from_slice(&trajectory.rewards);
        }
        for (name, numbers) in [("observations", observations), ("actions", actions), ("rewards", rewards)] {
            tensors.push((format!("replay.{name}"), Tensor::from_slice(&numbers)));
        }
    }
    run_dir.save(state, &tensors, |folder| learner.write(folder))
}

fn read_replay(
    plan: &RunPlan,
    state: &RunState,
    tensors: &std::collections::HashMap<String, Tensor>,
    observation_width: usize,
    action_width: usize,
) -> anyhow::Result<Option<Replay>> {
    let Some(online) = plan.online.as_ref().filter(|_| state.rounds > 0) else { return Ok(None) };
    let list = |name: &str| -> anyhow::Result<Vec<f32>> {
        let tensor = tensors.get(&format!("replay.{name}"));
        let tensor = tensor.with_context(|| format!("the checkpoint lacks `replay.{name}`"))?;
        Ok(Vec::try_from(tensor.to_kind(tch::Kind::Float))?)
    };
    let (observations, actions) = (list("observations")?, list("actions")?);
    let rewards = list("rewards")?;
    let steps: usize = state.replay_lengths.iter().sum();
    let episodes = state.replay_lengths.len();
    let fits = observations.len() == (steps + episodes) * observation_width
        && actions.len() == steps * action_width
        && rewards.len() == steps;
    anyhow::ensure!(fits, "the checkpoint's replay does not have the lengths that its state.json says");
    let mut replay = Replay::new(online.replay_capacity, observation_width, action_width);
    let (mut from, mut rows) = (0, 0);
    for length in &state.replay_lengths {
        replay.push(Trajectory {
            observations: observations[rows * observation_width..][..(length + 1) * observation_width]
                .to_vec(),
            actions: actions[from * action_width..][..length * action_width].to_vec(),
            rewards: rewards[from..][..*length].to_vec(),
            end: Phase::Running, // windows do not ask
        });
        from += length;
        rows += length + 1;
    }
    Ok(Some(replay))
}

/// The evaluations up to the checkpoint's update.
fn read_evaluations(run_dir: &RunDir, updates: usize) -> anyhow::Result<Vec<Evaluated>> {
    let path = run_dir.root().join("evaluation.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))?;
    let mut evaluations: Vec<Evaluated> =
        serde_json::from_str(&text).with_context(|| format!("{path:?} is no list of evaluations"))?;
    evaluations.retain(|evaluation| evaluation.updates <= updates);
    Ok(evaluations)
}

fn record_evaluation(recorder: &mut Recorder, updates: usize, found: &Evaluation) -> anyhow::Result<()> {
    recorder.scalar(metrics::EVAL_RETURN, updates, found.mean_return)?;
    recorder.scalar(metrics::EVAL_LENGTH, updates, found.mean_length)?;
    if let Some(rate) = found.success_rate {
        recorder.scalar(metrics::EVAL_SUCCESS, updates, rate)?;
    }
    if let Some(score) = found.normalized_score {
        recorder.scalar(metrics::EVAL_SCORE, updates, score)?;
    }
    recorder.flush()
}

fn record_exploration(
    recorder: &mut Recorder,
    state: &RunState,
    explored: &Evaluation,
    speed: f64,
) -> anyhow::Result<()> {
    recorder.scalar(metrics::ROLLOUT_RETURN, state.updates, explored.mean_return)?;
    recorder.scalar(metrics::ROLLOUT_LENGTH, state.updates, explored.mean_length)?;
    if let Some(rate) = explored.success_rate {
        recorder.scalar(metrics::ROLLOUT_SUCCESS, state.updates, rate)?;
    }
    recorder.scalar(metrics::FPS, state.updates, speed)?;
    recorder.scalar(metrics::TIMESTEPS, state.updates, state.env_steps as f64)
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
