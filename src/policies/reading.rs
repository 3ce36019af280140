//! A policy read from disk with what it needs to meet an environment or a dataset.

use std::fmt;
use std::path::Path;

use eva_rl_agents::adapter::{AdapterFolder, AdapterSet};
use eva_rl_agents::model::{
    self, ActionKind, Conditioning, Given, Policy, PolicyConfig, Spaces, TransformerPolicy,
};
use eva_rl_agents::tensor::file::TensorFile;
use eva_rl_envs::{ActionSpace, EnvSpec, Space};
use tch::Device;

use super::grid::grid_place;
use super::task_env::check_named_task;
use crate::data::{Dataset, Trajectory, texts};
use crate::hub::{self, HubName};
use crate::support::errors::{InputError, OrInput, tell};

/// Reads a policy of any kind, for acting; `statistics` is a file that the user names.
pub fn read_policy(path: &Path, given: Given, device: Device) -> anyhow::Result<Policy> {
    let policy = if HubName::of(path).is_some() {
        Policy::Transformer(read_of_hub(path, given, device)?)
    } else if path.exists() {
        Policy::read(path, given, device).or_input()?
    } else {
        let hint = hub_hint(path);
        return Err(InputError(format!(
            "there is no policy {path:?}; expected a folder, a `.pt` file or hf:OWNER/NAME{hint}"
        ))
        .into());
    };
    check_named_task(policy.config(), path)?;
    if let [first, others @ ..] = policy.config().ignored.as_slice() {
        let others = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
        tell(&format!("{path:?} holds `{first}`{others}, no part of a decision transformer: left out"));
    }
    Ok(policy)
}

/// Reads a policy of the Hub by what runs no code: a TorchScript module is code, and is refused.
fn read_of_hub(path: &Path, given: Given, device: Device) -> anyhow::Result<TransformerPolicy> {
    let local = hub::local(path)?;
    if TensorFile::is_torch_script(&local) {
        return Err(InputError(format!(
            "{path:?} is a TorchScript module, which is code, expected weights; who trusts it downloads it with `hf download` and names the file"
        ))
        .into());
    }
    let read = if local.is_file() { model::read_file } else { model::read };
    read(&local, given, device).or_input()
}

/// How to get a model that is named as the Hugging Face Hub names its own, `OWNER/NAME`.
pub fn hub_hint(path: &Path) -> String {
    let text = path.to_string_lossy();
    let owner = text.split('/').next().unwrap_or_default();
    if hub::is_repo(&text) && !Path::new(owner).exists() {
        return format!("; hf:{text} is the model of that name on the Hugging Face Hub");
    }
    String::new()
}

/// Reads a policy whose maps can be adapted and trained.
pub fn read_transformer(path: &Path, given: Given, device: Device) -> anyhow::Result<TransformerPolicy> {
    match read_policy(path, given, device)? {
        Policy::Transformer(policy) => Ok(policy),
        Policy::TorchScript(_) => Err(InputError(format!(
            "{path:?} is a TorchScript module, whose linear maps are compiled into its own code and take no adapters; expected a policy in Hugging Face's format"
        ))
        .into()),
    }
}

/// Reads an adapter folder of `policy`.
pub fn read_adapter(
    folder: &Path,
    policy: &TransformerPolicy,
) -> anyhow::Result<(AdapterFolder, AdapterSet)> {
    let folder = hub::local(folder)?;
    let (facts, adapters) = AdapterFolder::read(&folder, policy.device()).or_input()?;
    policy.check_adapters(&facts, &adapters, &folder).or_input()?;
    Ok((facts, adapters))
}

/// The policy's keys for acting, complete; `target` is a target return that the user names, before which the policy's
/// own gives way.
pub fn conditioning(
    config: &PolicyConfig,
    device: Device,
    path: &Path,
    target: Option<f32>,
) -> anyhow::Result<Conditioning> {
    check_task(config, path)?;
    let config = PolicyConfig { target_return: target.or(config.target_return), ..config.clone() };
    Conditioning::new(&config, device)
        .map_err(|missing| InputError(format!("the policy {path:?} cannot act: {missing}")).into())
}

/// Refuses a policy of several tasks of which none is named.
pub fn check_task(config: &PolicyConfig, path: &Path) -> anyhow::Result<()> {
    if config.task.is_none() && !config.tasks.is_empty() {
        let (count, known) = (config.tasks.len(), config.known_tasks());
        let text = format!(
            "the policy {path:?} plays {count} tasks, and none is named, expected `task` to be {known}"
        );
        return Err(InputError(text).into());
    }
    Ok(())
}

/// Says so where an environment's episodes are longer than the policy knows timesteps.
pub fn tell_long_episodes(config: &PolicyConfig, spec: &EnvSpec) {
    let (steps, known) = (i64::from(spec.max_episode_steps), config.max_ep_len);
    if steps > known {
        tell(&format!(
            "episodes of `{}` may last {steps} steps, and the policy knows {known} timesteps (max_ep_len): all later steps look like step {} to it",
            spec.id,
            known - 1
        ));
    }
}

/// Standard deviations from the mean past which a state is told of.
const FAR: f32 = 100.0;

/// Says so where states lie very far from the mean of the policy's training data.
pub fn tell_far_states<'a>(
    config: &PolicyConfig,
    trajectories: impl IntoIterator<Item = &'a Trajectory>,
    whose: &str,
) {
    let (Some(mean), Some(std)) = (&config.state_mean, &config.state_std) else { return };
    if mean.is_empty() {
        return; // the policy reads images alone
    }
    let mut furthest = (0, 0.0, 0.0); // dimension, its value, deviations
    for trajectory in trajectories {
        for row in trajectory.observations.all().chunks(mean.len()) {
            for (dimension, ((x, mean), std)) in row.iter().zip(mean).zip(std).enumerate() {
                let away = ((x - mean) / std).abs();
                if away > furthest.2 {
                    furthest = (dimension, *x, away);
                }
            }
        }
    }
    let (dimension, x, away) = furthest;
    if away > FAR {
        let (mean, std) = (mean[dimension], std[dimension]);
        tell(&format!(
            "observation dimension {dimension} of {whose} is {x}, which is {away:.0} standard deviations from the policy's state_mean (mean {mean}, state_std {std})"
        ));
    }
}

/// Refuses texts that the policy cannot read whole.
pub fn check_texts<'a>(
    config: &PolicyConfig,
    trajectories: impl IntoIterator<Item = &'a Trajectory>,
    whose: &str,
) -> anyhow::Result<()> {
    let Some(reading) = config.text_reading() else { return Ok(()) };
    for found in texts::of(trajectories, config.row_width() as usize, reading.place()) {
        let refused = |unknown| InputError(format!("{whose} says what the policy does not know: {unknown}"));
        reading.check(&found).map_err(refused)?;
    }
    Ok(())
}

/// Refuses target returns, and a cap on them, for a policy that is told none.
pub fn check_returns(conditioning: &Conditioning, targets: &[f32], cap: Option<f32>) -> anyhow::Result<()> {
    let named = targets.first().map(|target| ("--target-return", target));
    match named.or(cap.as_ref().map(|cap| ("--max-return-to-go", cap))) {
        Some((option, value)) if !conditioning.reads_returns => Err(InputError(format!(
            "{option} is {value}, and the policy is told no return, expected it to be left out"
        ))
        .into()),
        _ => Ok(()),
    }
}

/// Says so where a target return lies far above what the policy's training data reached.
pub fn tell_far_targets(targets: &[f32], known: Option<f32>) {
    let Some(known) = known else { return };
    for target in targets.iter().filter(|target| **target - known > 0.5 * known.abs()) {
        tell(&format!(
            "target return {target} lies far above {known}, the greatest return-to-go of the policy's training data"
        ));
    }
}

/// Refuses actions that no policy of ours chooses.
pub fn check_actions(action: &ActionSpace, whose: &str) -> anyhow::Result<()> {
    if let ActionSpace::MultiDiscrete { counts, .. } = action {
        return Err(InputError(format!(
            "{whose} takes {} discrete actions at once, and policies choose one, or numbers",
            counts.len()
        ))
        .into());
    }
    Ok(())
}

/// What an environment or a dataset shows: numbers, and an image.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Numbers of an observation, its image aside.
    pub numbers: usize,
    /// Its channels, height and width.
    pub image: Option<[usize; 3]>,
    /// The space of which these are all, where somebody says.
    pub space: Option<&'a Space>,
}

impl<'a> Shown<'a> {
    /// What an environment of this contract shows.
    pub fn by(spec: &'a EnvSpec) -> Self {
        Self { numbers: spec.observation_width(), image: spec.image, space: spec.space.as_ref() }
    }

    /// What a dataset shows.
    pub fn in_data(dataset: &'a Dataset) -> Self {
        let space = dataset.space.as_ref();
        Self { numbers: dataset.observation_width, image: dataset.image, space }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.image {
            None => write!(f, "{} numbers", self.numbers),
            Some(shape) if self.numbers == 0 => write!(f, "images {shape:?}"),
            Some(shape) => write!(f, "images {shape:?} and {} numbers", self.numbers),
        }
    }
}

/// The policy for an environment or a dataset, `whose`, that shows and takes these, where its family serves any; as it
/// is where not.
pub fn fitted(policy: Policy, shown: Shown, action: &ActionSpace, whose: &str) -> anyhow::Result<Policy> {
    let (action_kind, act_dim) = match action {
        ActionSpace::MultiDiscrete { .. } => return Ok(policy), // which is refused later
        ActionSpace::Discrete { n, .. } => (ActionKind::Discrete, *n),
        ActionSpace::Box { low, .. } => (ActionKind::Continuous, low.len()),
    };
    let spaces = Spaces {
        numbers: shown.numbers as i64,
        ids: false,
        grid: shown.space.and_then(|space| grid_place(space, shown.image.is_some(), shown.numbers)),
        image: shown.image.map(|shape| shape.map(|size| size as i64)),
        action_kind,
        act_dim: act_dim as i64,
    };
    let refused = |bad| InputError(format!("the policy does not serve {whose}: {bad}"));
    let mut policy = policy.fitted(&spaces).map_err(refused)?;
    // What it knows as −1 and 1 are the environment's own bounds then.
    if let (Policy::Transformer(policy), ActionSpace::Box { low, high }) = (&mut policy, action)
        && policy.config().has_action_vocabulary()
        && low.iter().chain(high).all(|bound| bound.is_finite())
    {
        let config = policy.config_mut();
        (config.action_low, config.action_high) = (Some(low.clone()), Some(high.clone()));
    }
    Ok(policy)
}

/// The same of a policy whose maps can be adapted and trained.
pub fn fitted_transformer(
    policy: TransformerPolicy,
    shown: Shown,
    action: &ActionSpace,
    whose: &str,
) -> anyhow::Result<TransformerPolicy> {
    match fitted(Policy::Transformer(policy), shown, action, whose)? {
        Policy::Transformer(policy) => Ok(policy),
        Policy::TorchScript(_) => unreachable!("it was none before"),
    }
}

/// Refuses a policy that reads something else than what it is to meet.
pub fn check_shown(config: &PolicyConfig, shown: Shown, whose: &str) -> anyhow::Result<()> {
    let reads = Shown {
        numbers: config.row_width() as usize,
        image: config.shown_image().map(|shape| shape.map(|size| size as usize)),
        space: None,
    };
    if (reads.numbers, reads.image) != (shown.numbers, shown.image) {
        return Err(InputError(format!("the policy reads states of {reads}, and {whose} has {shown}")).into());
    }
    Ok(())
}

/// Refuses a policy that reads or chooses something else than what it is to meet.
pub fn check_spaces(
    config: &PolicyConfig,
    shown: Shown,
    action: &ActionSpace,
    whose: &str,
) -> anyhow::Result<()> {
    check_shown(config, shown, whose)?;
    check_actions(action, whose)?;
    let (kind, count) = match action {
        ActionSpace::MultiDiscrete { .. } => unreachable!("it was refused"),
        ActionSpace::Discrete { n, .. } => (ActionKind::Discrete, *n),
        ActionSpace::Box { low, .. } => (ActionKind::Continuous, low.len()),
    };
    let chosen = match config.action_kind {
        ActionKind::Binned => ActionKind::Continuous, // numbers too, to an environment
        kind => kind,
    };
    if (chosen, config.act_dim as usize) != (kind, count) {
        return Err(InputError(format!(
            "the policy chooses {}, and {whose} takes {}",
            describe_actions(config.action_kind, config.act_dim as usize),
            describe_actions(kind, count)
        ))
        .into());
    }
    if let (ActionSpace::Box { low, high }, false) = (action, config.raw_actions) {
        let ones = vec![1.0; count];
        let minus_ones = vec![-1.0; count];
        let known_low = config.action_low.as_ref().unwrap_or(&minus_ones);
        let known_high = config.action_high.as_ref().unwrap_or(&ones);
        if known_low != low || known_high != high {
            let known = ActionSpace::Box { low: known_low.clone(), high: known_high.clone() }.to_string();
            let taken = action.to_string();
            let bounds = if known == taken { " with other bounds" } else { "" };
            return Err(InputError(format!(
                "the policy's actions are {known}, and {whose} takes {taken}{bounds}"
            ))
            .into());
        }
    }
    Ok(())
}

fn describe_actions(kind: ActionKind, count: usize) -> String {
    match kind {
        ActionKind::Continuous | ActionKind::Binned => format!("actions of {count} numbers"),
        ActionKind::Discrete => format!("one of {count} actions"),
    }
}
