//! What a run needs from outside, read and checked before anything is written.

use std::path::PathBuf;

use eva_rl_agents::model::{Conditioning, Given, Tasks, TransformerPolicy};
use eva_rl_envs::{ActionSpace, EnvSpec, Kwargs, VecEnv};
use serde_json::Value;
use tch::Device;

use super::adapter_init::{check_rank, check_tokens};
use super::new_policy;
use crate::config::{LossConfig, NewTaskConfig, OnlineConfig, PolicyConfig, RunPlan, StatisticsFrom};
use crate::data::{self, Dataset, Replay, greatest_return};
use crate::evaluation::Task;
use crate::policies;
use crate::rollout;
use crate::support::errors::{InputError, env_failure, tell};
use crate::support::ranks;
use crate::support::seeds::{self, Purpose};

/// What a run needs from outside, read and checked before anything is written.
pub struct TrainInputs {
    /// The policy to be adapted.
    pub policy: TransformerPolicy,
    /// How it reads its environment.
    pub conditioning: Conditioning,
    /// What updates draw from.
    pub offline: Replay,
    /// What no update sees; may be nothing.
    pub validation: Replay,
    /// The greatest return of the data's episodes.
    pub best_return: f32,
    /// What evaluations play instead of the environment, if anything.
    pub tasks: Vec<Task>,
    /// The environment of exploration and evaluations.
    pub env: Box<dyn VecEnv>,
}

/// Reads the policy, the data and the environment, and checks that they fit each other.
pub fn read_inputs(plan: &RunPlan, device: Device, allow_imports: bool) -> anyhow::Result<TrainInputs> {
    let pretrained = match &plan.policy {
        PolicyConfig::Pretrained { statistics, task, new_task, .. } => {
            let path = plan.policy.source().expect("it is pretrained");
            let file = statistics.as_ref().and_then(StatisticsFrom::file);
            let beside = match (new_task, task) {
                (Some(NewTaskConfig { group }), Some(task)) => Some(new_task_of(plan, task, group)?),
                _ => None,
            };
            seeds::seed_torch(plan.seed, Purpose::Weights, 2);
            let given =
                Given { statistics: file, task: task.as_deref(), new_tasks: beside.as_ref(), compact: false };
            let mut policy = policies::read_transformer(&path, given, device)?;
            if let (Some(beside), false) = (&beside, policy.config().new_tensors.is_empty()) {
                let mean = beside.values().find_map(policies::action_mean);
                policy.begin_actions_at(&mean.expect("a task of data has it"));
            }
            let of_data = *statistics == Some(StatisticsFrom::Data);
            if !of_data {
                // What is missing is said before the data are read; their best return may be the target.
                let target = plan.env.target_return.map(|target| target.given(0.0));
                policies::conditioning(policy.config(), device, &path, target)?;
            }
            policies::check_task(policy.config(), &path)?;
            Some((policy, path, of_data))
        }
        PolicyConfig::New(_) | PolicyConfig::NewL2m(_) | PolicyConfig::NewLram(_) => None,
    };
    let images = match &pretrained {
        Some((policy, ..)) => policy.reads_images(),
        None => new_policy::reads_images(&plan.policy),
    };
    let env = rollout::make_part(
        ranks::world(),
        &plan.env.id,
        &plan.env.kwargs,
        plan.env.num_envs,
        &plan.env.bridge(images),
    )
    .map_err(env_failure)?;
    policies::check_actions(&env.spec().action, &format!("`{}`", plan.env.id))?;
    let datasets = read_datasets(plan, env.spec(), images)?;
    let tasks = if plan.evaluation.on_datasets { tasks(plan, &datasets, allow_imports)? } else { Vec::new() };
    let best_return = greatest_return(&datasets);
    let target = plan.env.target_return.map(|target| target.given(best_return));
    let (policy, mut conditioning) = match pretrained {
        Some((policy, path, of_data)) => {
            let (whose, shown) = (format!("`{}`", plan.env.id), policies::Shown::by(env.spec()));
            let action = &env.spec().action;
            let mut policy = policies::fitted_transformer(policy, shown, action, &whose)?;
            if of_data {
                policies::take_statistics_of(policy.config_mut(), &datasets, &named(&plan.data.datasets))?;
            }
            policies::check_spaces(policy.config(), shown, action, &whose)?;
            let conditioning = policies::conditioning(policy.config(), device, &path, target)?;
            if conditioning.reads_returns {
                policy.config_mut().target_return.get_or_insert(conditioning.target_return);
            }
            (policy, conditioning)
        }
        None => {
            let config = new_policy::config(plan, &datasets)?;
            seeds::seed_torch(plan.seed, Purpose::Weights, 0);
            let policy = TransformerPolicy::new(config, device);
            let conditioning = Conditioning::new(policy.config(), device)?;
            (policy, conditioning)
        }
    };
    check_algorithm(plan, &policy, &conditioning, env.spec())?;
    let reads = match (conditioning.image_shape(), conditioning.text_reading()) {
        (Some(shape), _) => Some(format!("images {shape:?}")),
        (None, Some(_)) => Some("texts".to_owned()),
        (None, None) => None,
    };
    if let (Some(reads), Some(OnlineConfig::Td3Odt(_))) = (reads, &plan.online) {
        return Err(InputError(format!(
            "the policy reads {reads}, and the critics of [online.td3_odt] read vectors; expected [online.odt], [online.grpo] or [online.filtered_bc]"
        ))
        .into());
    }
    plan.evaluation.actions.check(&policy)?;
    check_rank(plan, &policy)?;
    check_tokens(&plan.adapter, &policy)?;
    conditioning.target_return = target.unwrap_or(conditioning.target_return);
    conditioning.return_cap = plan.rollout.max_return_to_go;
    check_split(plan, &datasets)?;
    tell_other_environments(plan, &datasets);
    if let PolicyConfig::Pretrained { .. } = &plan.policy {
        let trajectories = datasets.iter().flat_map(|dataset| &dataset.trajectories);
        policies::tell_far_states(policy.config(), trajectories.clone(), "the data");
        policies::check_texts(policy.config(), trajectories, "the data")?;
    }
    policies::tell_long_episodes(policy.config(), env.spec());
    let (offline, validation) = split(plan, datasets, &conditioning);
    Ok(TrainInputs { policy, conditioning, offline, validation, best_return, tasks, env })
}

/// A task that the policy does not know, as the plan's data have it.
fn new_task_of(plan: &RunPlan, task: &str, group: &str) -> anyhow::Result<Tasks> {
    let read = |path: &PathBuf| data::read_named(path, plan.data.reading(false));
    let datasets: Vec<Dataset> = plan.data.datasets.iter().map(read).collect::<Result<_, _>>()?;
    Ok(Tasks::from([(task.to_owned(), policies::task_of_data(&datasets, task, group)?)]))
}

/// Refuses algorithms and targets that mean nothing to a policy whose context goes on over episodes, whose actions are
/// the environment's own numbers, or which is told no return.
fn check_algorithm(
    plan: &RunPlan,
    policy: &TransformerPolicy,
    conditioning: &Conditioning,
    spec: &EnvSpec,
) -> anyhow::Result<()> {
    let refuse = |text: &str| Err(InputError(text.to_owned()).into());
    if conditioning.spans_episodes
        && let Some(OnlineConfig::Td3Odt(_) | OnlineConfig::Grpo(_)) = &plan.online
    {
        return refuse(
            "the policy's context goes on over episodes, which [online.td3_odt] and [online.grpo] look at one by one; expected [online.odt] or [online.filtered_bc]",
        );
    }
    if policy.config().has_action_vocabulary()
        && let Some(OnlineConfig::Grpo(_)) = &plan.online
    {
        return refuse(
            "the policy reads windows that are padded to its context, and [online.grpo] compares likelihoods in the contexts of a cache; expected [online.odt], [online.td3_odt] or [online.filtered_bc]",
        );
    }
    if let (LossConfig::OnlineDt(_), true, ActionSpace::Box { low, high }) =
        (&plan.loss, policy.config().raw_actions, &spec.action)
        && (low.iter().any(|bound| *bound != -1.0) || high.iter().any(|bound| *bound != 1.0))
    {
        return refuse(
            "the policy's actions are the environment's own numbers, whose bounds are not -1 and 1, as [loss.online_dt] takes them to be; expected [loss.behaviour_cloning]",
        );
    }
    if !conditioning.reads_returns && plan.names_returns() {
        return refuse(
            "the config names returns to ask for, and the policy is told none; expected no target_return, target_returns or max_return_to_go",
        );
    }
    Ok(())
}

fn read_datasets(plan: &RunPlan, spec: &EnvSpec, images: bool) -> anyhow::Result<Vec<Dataset>> {
    let mut datasets = Vec::new();
    for path in &plan.data.datasets {
        let dataset = data::read_named(path, plan.data.reading(images))?;
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

/// The folders of a config's data as one name.
fn named(folders: &[PathBuf]) -> String {
    match folders {
        [] => String::new(),
        [one] => one.display().to_string(),
        [first, others @ ..] => format!("{} and {} more", first.display(), others.len()),
    }
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
        let target_return = greatest_return(std::slice::from_ref(dataset));
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
fn split(plan: &RunPlan, datasets: Vec<Dataset>, conditioning: &Conditioning) -> (Replay, Replay) {
    let (width, action_width) = (datasets[0].observation_width, datasets[0].action.width());
    let count = datasets.iter().map(|dataset| dataset.trajectories.len()).sum();
    let new = || Replay::new(count, width, action_width).read_by(conditioning);
    let (mut offline, mut validation) = (new(), new());
    let held_out = plan.data.validation_episodes;
    for dataset in datasets {
        let episodes = dataset.trajectories.len();
        for (number, episode) in dataset.trajectories.into_iter().enumerate() {
            let replay = if number < episodes - held_out { &mut offline } else { &mut validation };
            replay.push(episode);
        }
        if plan.data.balanced {
            offline.end_part();
            validation.end_part();
        }
    }
    (offline, validation)
}
