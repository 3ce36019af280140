//! A policy read from disk with what it needs to meet an environment or a dataset.

use std::path::Path;

use eva_rl_agents::adapter::{AdapterFolder, AdapterSet};
use eva_rl_agents::model::{self, ActionKind, Conditioning, DecisionTransformer, PolicyConfig};
use eva_rl_envs::ActionSpace;
use tch::Device;

use crate::failure::{InputError, OrInput};

/// Reads a policy folder.
pub fn read_policy(folder: &Path, device: Device) -> anyhow::Result<DecisionTransformer> {
    model::read(folder, device).or_input()
}

/// Reads an adapter folder of `policy`.
pub fn read_adapter(
    folder: &Path,
    policy: &DecisionTransformer,
) -> anyhow::Result<(AdapterFolder, AdapterSet)> {
    AdapterFolder::read(folder, policy.device(), |site| policy.site_shape(site)).or_input()
}

/// Reads a policy, with an adapter folded in where there is one.
pub fn read_merged(
    folder: &Path,
    adapter: Option<&Path>,
    device: Device,
) -> anyhow::Result<DecisionTransformer> {
    let policy = read_policy(folder, device)?;
    match adapter {
        None => Ok(policy),
        Some(adapter) => {
            let (_, adapters) = read_adapter(adapter, &policy)?;
            Ok(tch::no_grad(|| policy.merged(&adapters)))
        }
    }
}

/// The policy's keys for acting, complete.
pub fn conditioning(policy: &DecisionTransformer, folder: &Path) -> anyhow::Result<Conditioning> {
    Conditioning::new(policy.config(), policy.device())
        .map_err(|missing| InputError(format!("the policy {folder:?} cannot act: {missing}")).into())
}

/// Refuses a policy whose widths differ from what it is to meet.
pub fn check_spaces(
    config: &PolicyConfig,
    observation_width: usize,
    action: &ActionSpace,
    whose: &str,
) -> anyhow::Result<()> {
    if config.state_dim as usize != observation_width {
        return Err(InputError(format!(
            "the policy reads states of {} numbers, and {whose} has {observation_width}",
            config.state_dim
        ))
        .into());
    }
    let (kind, count) = match action {
        ActionSpace::Discrete { n } => (ActionKind::Discrete, *n),
        ActionSpace::Box { low, .. } => (ActionKind::Continuous, low.len()),
    };
    if (config.action_kind, config.act_dim as usize) != (kind, count) {
        return Err(InputError(format!(
            "the policy chooses {}, and {whose} takes {}",
            describe_actions(config.action_kind, config.act_dim as usize),
            describe_actions(kind, count)
        ))
        .into());
    }
    if let ActionSpace::Box { low, high } = action {
        let ones = vec![1.0; count];
        let minus_ones = vec![-1.0; count];
        let known_low = config.action_low.as_ref().unwrap_or(&minus_ones);
        let known_high = config.action_high.as_ref().unwrap_or(&ones);
        if known_low != low || known_high != high {
            return Err(InputError(format!(
                "the policy's actions lie in {known_low:?}..={known_high:?}, and {whose} takes {low:?}..={high:?}"
            ))
            .into());
        }
    }
    Ok(())
}

fn describe_actions(kind: ActionKind, count: usize) -> String {
    match kind {
        ActionKind::Continuous => format!("actions of {count} numbers"),
        ActionKind::Discrete => format!("one of {count} actions"),
    }
}
