//! `init`: a commented config for a policy, a dataset and a method, to be edited and run.

use std::path::{Path, PathBuf};

use anyhow::Context;
use eva_rl_agents::adapter::{LoraOptions, Rank};
use eva_rl_agents::model::{Activation, Token, TransformerPolicy};
use eva_rl_agents::optimiser::{Algorithm, Schedule};
use eva_rl_envs::{Kwargs, is_bridged};
use tch::Device;

use crate::cli::InitArgs;
use crate::config::{
    self, ActionHeadConfig, AdapterConfig, CheckpointConfig, DataConfig, EnvConfig, EvaluationConfig,
    ExplorationConfig, FilteredBcConfig, GrpoConfig, LossConfig, NewPolicyConfig, OdtConfig, OfflineConfig,
    OnlineConfig, OnlineDtConfig, OptimiserConfig, PolicyConfig, Precision, RolloutConfig, RunConfig,
    TargetReturn, Td3OdtConfig,
};
use crate::data::{self, Dataset, OnBadEpisode, Reading, Trajectory};
use crate::policies;
use crate::policies::{Shown, Source};
use crate::rollout::{Actions, Inference};
use crate::support::atomic::{refuse_existing, write_file};
use crate::support::errors::{InputError, OrInput, tell};
use crate::support::stdout::print;

/// Environments that step together; GRPO's groups divide it.
const NUM_ENVS: usize = 16;

/// Rounds of exploration, and updates after each.
const ROUNDS: (usize, usize) = (10, 30);

/// What the files at hand say of the task.
struct Task {
    env: String,
    kwargs: Kwargs,
    episodes: usize,
    /// The longest episode, and the environment's own limit where it is native.
    steps: usize,
    /// The least and the greatest return of an episode.
    returns: [f32; 2],
}

/// The policy's folder where `path` may be a run too. A run starts from a whole policy, and from no adapter of one.
fn whole_policy(path: &Path) -> anyhow::Result<PathBuf> {
    let source = Source::of(path, None, None, None)?;
    match source.adapter {
        None => Ok(source.policy),
        Some(_) => Err(InputError(format!(
            "--policy is {path:?}, which holds an adapter, expected a whole policy; `eva-rl merge {} --out POLICY` makes one",
            path.display()
        ))
        .into()),
    }
}

/// Runs `init`.
pub fn run(mut args: InitArgs) -> anyhow::Result<()> {
    if let Some(out) = &args.out {
        refuse_existing(out)?;
    }
    args.policy = args.policy.as_deref().map(whole_policy).transpose()?;
    let policy = match &args.policy {
        None => None,
        Some(path) => {
            let source = args.given.source(path, None)?;
            Some((policies::read_transformer(path, source.given(), Device::Cpu)?, source))
        }
    };
    let images = policy.as_ref().is_some_and(|(policy, _)| policy.reads_images());
    let reading = Reading { images, ..Reading::default() };
    let datasets: Vec<Dataset> =
        args.data.iter().map(|path| data::read_named(path, reading)).collect::<Result<_, _>>()?;
    let policy = match (policy, datasets.first()) {
        (Some((policy, source)), Some(first)) => {
            let whose = format!("the dataset {:?}", args.data[0]);
            let mut policy =
                policies::fitted_transformer(policy, Shown::in_data(first), &first.action, &whose)?;
            source.take_statistics(policy.config_mut(), &datasets, Some(&args.data[0]))?;
            // The config names the target return.
            policies::conditioning(policy.config(), Device::Cpu, &source.policy, Some(0.0))?;
            Some(policy)
        }
        _ => None,
    };
    for (path, dataset) in args.data.iter().zip(&datasets) {
        let whose = format!("the dataset {path:?}");
        policies::check_actions(&dataset.action, &whose)?;
        if let Some(policy) = &policy {
            policies::check_spaces(policy.config(), Shown::in_data(dataset), &dataset.action, &whose)?;
        }
    }
    let task = task(&args, &datasets)?;
    let config = starting_point(&args, policy.as_ref(), &task)?;
    let text = config::commented(&config, &heading(&args, &task));
    config.plan().or_input()?;
    match &args.out {
        None => print(text.trim_end()),
        Some(out) => {
            if let Some(parent) = out.parent() {
                std::fs::create_dir_all(parent).with_context(|| format!("cannot make {parent:?}"))?;
            }
            write_file(out, |aside| Ok(std::fs::write(aside, &text)?))?;
            tell(&format!("run it with: eva-rl train {}", out.display()));
            Ok(())
        }
    }
}

fn task(args: &InitArgs, datasets: &[Dataset]) -> anyhow::Result<Task> {
    let (env, mut kwargs) = match (&args.env, &datasets[0].env) {
        (Some(id), Some((own, kwargs))) if id == own => (id.clone(), kwargs.clone()),
        (Some(id), _) => (id.clone(), Kwargs::new()),
        (None, Some((id, kwargs))) => (id.clone(), kwargs.clone()),
        (None, None) => {
            let text =
                format!("the dataset {:?} does not name its environment; name it with --env", args.data[0]);
            return Err(InputError(text).into());
        }
    };
    kwargs.extend(args.kwargs.iter().cloned());
    let trajectories = || datasets.iter().flat_map(|dataset| &dataset.trajectories);
    let returns = || trajectories().map(|trajectory| trajectory.total_return() as f32);
    let longest = trajectories().map(Trajectory::len).max().expect("a dataset has at least one trajectory");
    let mut limit = 0;
    if !is_bridged(&env) {
        let spec = eva_rl_envs::spec(&env, &kwargs).or_input()?;
        for (path, dataset) in args.data.iter().zip(datasets) {
            if let Some(difference) = dataset.differs_from(&spec) {
                return Err(InputError(format!("the dataset {path:?} {difference}")).into());
            }
        }
        limit = spec.max_episode_steps as usize;
    }
    Ok(Task {
        env,
        kwargs,
        episodes: trajectories().count(),
        steps: longest.max(limit),
        returns: [returns().fold(f32::INFINITY, f32::min), returns().fold(f32::NEG_INFINITY, f32::max)],
    })
}

fn heading(args: &InitArgs, task: &Task) -> String {
    let data: Vec<String> = args.data.iter().map(|path| path.display().to_string()).collect();
    let [least, greatest] = task.returns;
    let begin = args.policy.as_ref().map_or("A new policy is trained".to_owned(), |path| {
        format!("The policy {} is adapted", path.display())
    });
    format!(
        "{begin} on {}: {} episodes with returns from {least:.1} to {greatest:.1}.\nRun it with `eva-rl train FILE`; the values are a place to start from, not tuned for the task.",
        data.join(", "),
        task.episodes
    )
}

/// The config that the arguments ask for; what they do not say is as in this repository's configs.
fn starting_point(
    args: &InitArgs,
    policy: Option<&TransformerPolicy>,
    task: &Task,
) -> anyhow::Result<RunConfig> {
    let method = match args.method.as_deref() {
        None if policy.is_some() => "eva",
        None | Some("full") => "full_fine_tuning",
        Some(method) => method,
    };
    if policy.is_none() && method != "full_fine_tuning" {
        let text =
            format!("--method {method} adapts a policy: name one with --policy, or leave --method out");
        return Err(InputError(text).into());
    }
    let target_return = task.returns[1];
    let reads_returns = policy.is_none_or(|policy| policy.config().reads(Token::Return));
    let online = online(&args.online, task);
    let updates = if policy.is_some() { 300 } else { 2000 };
    let total = updates + online.as_ref().map_or(0, |_| ROUNDS.0 * ROUNDS.1);
    let draws = matches!(online, Some(OnlineConfig::Odt(_) | OnlineConfig::Grpo(_)));
    Ok(RunConfig {
        seed: 1,
        policy: match &args.policy {
            Some(path) => PolicyConfig::Pretrained {
                path: path.clone(),
                commit: None,
                statistics: args.given.statistics.clone(),
                task: args.given.task.clone(),
                new_task: None,
            },
            None => PolicyConfig::New(new_policy(task)),
        },
        data: DataConfig {
            datasets: args.data.clone(),
            balanced: false,
            validation_episodes: 0,
            on_bad_episode: OnBadEpisode::default(),
            clip_actions: false,
        },
        adapter: adapter(method, policy, total),
        loss: if draws {
            LossConfig::OnlineDt(OnlineDtConfig {
                initial_std: None,
                initial_temperature: 0.1,
                temperature_learning_rate: 1e-3,
            })
        } else {
            LossConfig::BehaviourCloning {}
        },
        optimiser: OptimiserConfig {
            batch_size: 64,
            algorithm: Algorithm::AdamW,
            online_learning_rate: None,
            learning_rate: if policy.is_some() && method == "full_fine_tuning" { 3e-4 } else { 1e-3 },
            weight_decay: if policy.is_some() { 0.0 } else { 1e-4 },
            lora_plus_ratio: 1.0,
            gradient_clip: 0.25,
            schedule: Schedule::Cosine { warmup: 20 },
            precision: Precision::Single,
        },
        offline: OfflineConfig { updates },
        online,
        env: EnvConfig {
            id: task.env.clone(),
            num_envs: NUM_ENVS,
            target_return: reads_returns.then_some(TargetReturn::Of(target_return)),
            kwargs: task.kwargs.clone(),
            bridge: None,
        },
        rollout: RolloutConfig::default(),
        evaluation: EvaluationConfig {
            every: total / 6,
            episodes: 20,
            target_returns: Vec::new(),
            inference: Inference::Window,
            actions: Actions::Greedy,
            on_datasets: false,
            patience: None,
        },
        checkpoint: CheckpointConfig { every: total / 2, keep: Some(2) },
        ranks: None,
    })
}

/// A small transformer for the task.
fn new_policy(task: &Task) -> NewPolicyConfig {
    let [least, greatest] = task.returns.map(f32::abs);
    let scale = least.max(greatest);
    NewPolicyConfig {
        hidden_size: 128,
        layers: 3,
        heads: 4,
        dropout: 0.1,
        context_length: 20,
        max_episode_length: task.steps as i64,
        return_scale: if scale > 0.0 { scale } else { 1.0 },
        target_return: task.returns[1],
        tokens: vec![Token::Return, Token::State, Token::Action],
        global_positions: false,
        image_encoder: None,
        text: None,
        action_head: ActionHeadConfig::Continuous {},
        activation: Activation::Relu,
    }
}

/// The table of a method, with the constants of its paper or of PEFT, at the greatest rank up to 8 that every target
/// module has components for.
fn adapter(method: &str, policy: Option<&TransformerPolicy>, total: usize) -> AdapterConfig {
    let sides = policy.into_iter().flat_map(TransformerPolicy::sites).map(|site| site.input.min(site.output));
    let narrowest = sides.min().unwrap_or(1);
    let of_rank = |rank: u16| {
        let lora = LoraOptions::new(Rank::try_from(rank).expect("it is at least 1"));
        AdapterConfig::with_defaults(method, lora, total).expect("the command line knows the methods")
    };
    let fits = |config: &AdapterConfig| config.as_method().components() <= narrowest;
    (1..=8).rev().map(of_rank).find(fits).unwrap_or_else(|| of_rank(1))
}

/// The table of an algorithm, with the constants of the configs of this repository; none for `none`.
fn online(algorithm: &str, task: &Task) -> Option<OnlineConfig> {
    let exploration =
        ExplorationConfig { rounds: ROUNDS.0, updates_per_round: ROUNDS.1, target_return: None };
    let replay_capacity = task.episodes + ROUNDS.0 * NUM_ENVS;
    Some(match algorithm {
        "odt" => OnlineConfig::Odt(OdtConfig { replay_capacity, exploration }),
        "td3_odt" => OnlineConfig::Td3Odt(Td3OdtConfig {
            replay_capacity,
            noise: 0.1,
            rl_weight: 1.0,
            critic_warmup: 100,
            discount: 0.99,
            lambda: 0.9,
            critic_width: 128,
            critic_learning_rate: 1e-3,
            polyak: 0.05,
            target_noise: 0.2,
            target_noise_clip: 0.5,
            policy_delay: 2,
            exploration,
        }),
        "grpo" => OnlineConfig::Grpo(GrpoConfig { group_size: 8, discount: 0.99, clip: 0.2, exploration }),
        "filtered_bc" => {
            OnlineConfig::FilteredBc(FilteredBcConfig { replay_capacity, noise: 0.1, exploration })
        }
        _ => return None,
    })
}
