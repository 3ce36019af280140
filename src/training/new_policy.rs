//! A policy with random weights, of any family that a config may ask for, normalised by its data.

use eva_rl_agents::model::{self, ActionIds, ActionKind, PolicyConfig as ModelConfig, Vocabulary};
use eva_rl_envs::ActionSpace;

use crate::config::{ActionHeadConfig, NewDiscretisedConfig, NewPolicyConfig, PolicyConfig, RunPlan};
use crate::data::{Dataset, observation_moments, texts};
use crate::support::errors::{InputError, OrInput};

/// Whether a new policy of this config reads the images of observations as such, if the data has any.
pub fn reads_images(policy: &PolicyConfig) -> bool {
    match policy {
        PolicyConfig::Pretrained { .. } => false,
        PolicyConfig::New(new) => new.image_encoder.is_some(),
        PolicyConfig::NewL2m(_) | PolicyConfig::NewLram(_) => true,
    }
}

/// The config of the new policy that the plan asks for, which fits its data.
pub fn config(plan: &RunPlan, datasets: &[Dataset]) -> anyhow::Result<ModelConfig> {
    let config = match &plan.policy {
        PolicyConfig::Pretrained { .. } => unreachable!("it is read, not made"),
        PolicyConfig::New(new) => {
            if let (Some(_), None) = (new.image_encoder, datasets[0].image) {
                let text = format!(
                    "`policy.new.image_encoder` is given, and the dataset {:?} has no images (uint8 from 0 to 255 on three axes)",
                    plan.data.datasets[0]
                );
                return Err(InputError(text).into());
            }
            let text = match &new.text {
                None => None,
                Some(key) => Some(texts::vocabulary(key, datasets).map_err(InputError)?),
            };
            decision_transformer(new, text, datasets)
        }
        PolicyConfig::NewL2m(new) => model::new_l2m_config(ids(new), discretised(new, datasets)),
        PolicyConfig::NewLram(new) => model::new_lram_config(ids(new), discretised(new, datasets)),
    };
    model::check_config(&config).or_input()?;
    Ok(config)
}

fn decision_transformer(
    new: &NewPolicyConfig,
    text: Option<Vocabulary>,
    datasets: &[Dataset],
) -> ModelConfig {
    let data = of_data(datasets);
    let action_kind = match (data.action_kind, new.action_head) {
        (ActionKind::Continuous, ActionHeadConfig::Binned { .. }) => ActionKind::Binned,
        (kind, _) => kind,
    };
    let action_bins = match new.action_head {
        ActionHeadConfig::Binned { bins } if action_kind == ActionKind::Binned => Some(bins),
        _ => None,
    };
    let image = datasets[0].image;
    model::new_config(ModelConfig {
        image_encoder: image.and(new.image_encoder),
        text,
        hidden_size: new.hidden_size,
        max_ep_len: new.max_episode_length,
        action_tanh: action_kind == ActionKind::Continuous,
        n_positions: new.tokens.len() as i64 * new.context_length,
        activation_function: new.activation,
        action_bins,
        token_order: new.tokens.clone(),
        global_positions: new.global_positions,
        n_layer: new.layers,
        n_head: new.heads,
        resid_pdrop: new.dropout,
        embd_pdrop: new.dropout,
        attn_pdrop: new.dropout,
        action_kind,
        context_length: Some(new.context_length),
        return_scale: Some(new.return_scale),
        target_return: Some(new.target_return),
        ..data
    })
}

fn ids(new: &NewDiscretisedConfig) -> ActionIds {
    ActionIds { discrete: new.discrete_actions, bins: new.bins }
}

fn discretised(new: &NewDiscretisedConfig, datasets: &[Dataset]) -> ModelConfig {
    ModelConfig {
        hidden_size: new.hidden_size,
        max_ep_len: new.max_episode_length,
        activation_function: new.activation,
        global_positions: new.global_positions,
        n_layer: new.layers,
        n_head: new.heads,
        resid_pdrop: new.dropout,
        embd_pdrop: new.dropout,
        attn_pdrop: new.dropout,
        context_length: Some(new.context_length),
        return_scale: Some(new.return_scale),
        target_return: Some(new.target_return),
        ..of_data(datasets)
    }
}

/// What data says of a new policy: its widths, its normalisation, the bounds of its actions, and its best return-to-go.
fn of_data(datasets: &[Dataset]) -> ModelConfig {
    let (dataset, (mean, deviation)) = (&datasets[0], observation_moments(datasets));
    let (act_dim, action_kind, low, high) = match &dataset.action {
        ActionSpace::Discrete { n, .. } => (*n, ActionKind::Discrete, None, None),
        ActionSpace::MultiDiscrete { .. } => unreachable!("`policies::check_actions` refuses it"),
        ActionSpace::Box { low, high } => {
            (low.len(), ActionKind::Continuous, Some(low.clone()), Some(high.clone()))
        }
    };
    let image = dataset.image;
    ModelConfig {
        state_dim: (dataset.observation_width + image.map_or(0, |shape| shape.iter().product())) as i64,
        image_shape: image.map(|shape| shape.map(|size| size as i64)),
        act_dim: act_dim as i64,
        action_kind,
        state_mean: Some(mean),
        state_std: Some(deviation),
        max_return_to_go: datasets.iter().filter_map(Dataset::max_return_to_go).reduce(f32::max),
        action_low: low,
        action_high: high,
        ..ModelConfig::default()
    }
}
