//! `train`: the whole run that a config describes.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use eva_rl_agents::model::{Conditioning, DecisionTransformer, Policy};
use eva_rl_envs::VecEnv;
use indicatif::{ProgressBar, ProgressStyle};
use tch::Device;

use super::print;
use crate::agent;
use crate::checkpoint::{read_evaluations, read_replay, save};
use crate::cli::TrainArgs;
use crate::config::{self, EnvConfig, PolicyConfig, RunPlan};
use crate::data::{self, Dataset, Replay, Trajectory};
use crate::evaluation::{Evaluated, Evaluation, evaluate};
use crate::failure::{InputError, OrInput, tell};
use crate::film;
use crate::initialise::{Material, check_rank, initialise_adapters, new_policy, restore_adapters};
use crate::interrupt;
use crate::learner::Learner;
use crate::metrics::{self, Recorder};
use crate::model_card;
use crate::output::refuse_existing;
use crate::rng::{self, Purpose};
use crate::rollout::{self, Choice, PolicyActor};
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
    let env = eva_rl_envs::make_with(&plan.env.id, &plan.env.kwargs, plan.env.num_envs, &plan.env.bridge())
        .or_input()?;
    agent::check_actions(&env.spec().action, &format!("`{}`", plan.env.id))?;
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
        PolicyConfig::Pretrained { path, statistics } => {
            let policy = agent::read_transformer(path, statistics.as_deref(), device)?;
            let conditioning = agent::conditioning(policy.config(), device, path)?;
            let whose = format!("`{}`", plan.env.id);
            agent::check_spaces(policy.config(), env.spec().observation_width(), &env.spec().action, &whose)?;
            (policy, conditioning)
        }
        PolicyConfig::New(new) => {
            rng::seed_torch(plan.seed, Purpose::Weights, 0);
            let policy = DecisionTransformer::new(new_policy(new, &dataset), device);
            let conditioning = Conditioning::new(policy.config(), device)?;
            (policy, conditioning)
        }
    };
    check_rank(plan, &policy)?;
    Ok(Given { policy, conditioning, dataset, env })
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
            let acting = Policy::Transformer(learner.acting());
            let seed = rng::seed(plan.seed, Purpose::Evaluation, 0);
            let (episodes, targets) = (plan.evaluation.episodes, &plan.evaluation.target_returns);
            let targets = evaluate(&acting, &conditioning, env.as_mut(), episodes, targets, seed)?;
            record_evaluation(recorder, state.updates, &targets[0])?;
            say(&format!("update {:>6}: {}", state.updates, targets[0].line()));
            if state.best.is_none_or(|best| targets[0].mean_return > best) {
                state.best = Some(targets[0].mean_return);
                run_dir.save_best(|folder| learner.write(folder))?;
            }
            if last {
                show(plan, &acting, &conditioning, recorder, say)?;
            }
            evaluations.push(Evaluated { updates: state.updates, targets });
            run_dir.write("evaluation.json", &(serde_json::to_string_pretty(&evaluations)? + "\n"))?;
        }
        let stopping = interrupt::asked() && !last;
        if state.updates.is_multiple_of(plan.checkpoint.every) || last || stopping {
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
                let head = learner.head.as_ref().expect("a plan with [online] has Online DT's objective");
                let choice = Choice::Drawn(&acting, head);
                let mut actor = PolicyActor::new(choice, &conditioning, online.target_return, &space);
                let seed = rng::seed(plan.seed, Purpose::Exploration, state.rounds);
                let played = rollout::play(env.as_mut(), &mut actor, plan.env.num_envs, seed)?;
                let steps: usize = played.episodes.iter().map(Trajectory::len).sum();
                state.env_steps += steps;
                state.rounds += 1;
                let speed = steps as f64 / begun.elapsed().as_secs_f64();
                let explored = Evaluation::of(&played, env.spec(), Some(online.target_return));
                record_exploration(recorder, &state, &explored, speed)?;
                bar.set_message(format!("explored {:.0}", explored.mean_return));
                // Hindsight: a trajectory is relabelled with the return that it did earn.
                played.episodes.into_iter().for_each(|episode| replay.push(episode));
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

/// Films the first episode of the last evaluation for TensorBoard. A run does not fail for want of a picture.
fn show(
    plan: &RunPlan,
    acting: &Policy,
    conditioning: &Conditioning,
    recorder: &mut Recorder,
    say: impl Fn(&str),
) -> anyhow::Result<()> {
    let EnvConfig { id, kwargs, .. } = &plan.env;
    let seed = rng::seed(plan.seed, Purpose::Evaluation, 0);
    let film = film::drawable(id, kwargs, &plan.env.bridge()).map_err(anyhow::Error::from).and_then(|env| {
        let space = env.spec().action.clone();
        let target = plan.evaluation.target_returns[0];
        let mut actor = PolicyActor::new(Choice::Likeliest(acting), conditioning, target, &space);
        film::film(env, &mut actor, seed)
    });
    match film {
        Ok(film) => recorder.film(plan.total_updates(), &film),
        Err(error) => {
            say(&format!("no film of the last evaluation: {error:#}"));
            Ok(())
        }
    }
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
    if explored.lost_episodes > 0 {
        recorder.scalar(metrics::ROLLOUT_LOST, state.updates, explored.lost_episodes as f64)?;
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
