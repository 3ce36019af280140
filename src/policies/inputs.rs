//! What a forward pass reads, from a safetensors file.

use std::path::Path;

use eva_rl_agents::model::{ActionKind, Inputs, Policy, PolicyConfig, Previous, Spaces, Token};
use eva_rl_agents::tensor::file::TensorFile;
use tch::{Device, Kind, Tensor};

use crate::support::errors::{InputError, OrInput};

/// The policy for what a file holds, where its family serves any observations and actions: `states` of whole numbers
/// are ids, or images where they have three axes a step, and `actions` of whole numbers are one-hot.
pub fn fitted_to(policy: Policy, path: &Path) -> anyhow::Result<Policy> {
    let file = TensorFile::open(path).or_input()?;
    let (Some([_, _, state @ ..]), Some([.., act_dim])) = (file.shape("states"), file.shape("actions"))
    else {
        return Ok(policy); // what is missing is told when they are read
    };
    let whole = |name: &str| anyhow::Ok(!file.read(name).or_input()?.is_floating_point());
    let (numbers, image) = match *state {
        [numbers] => (numbers, None),
        [channels, height, width] => (0, Some([channels, height, width])),
        _ => return Ok(policy),
    };
    let action_kind = if whole("actions")? { ActionKind::Discrete } else { ActionKind::Continuous };
    let ids = image.is_none() && whole("states")?;
    let spaces = Spaces { numbers, ids, grid: None, image, action_kind, act_dim: *act_dim };
    policy
        .fitted(&spaces)
        .map_err(|bad| InputError(format!("the policy does not serve {path:?}: {bad}")).into())
}

/// The tensors, with the shapes that the policy asks for.
pub fn read_inputs(path: &Path, config: &PolicyConfig) -> anyhow::Result<Inputs> {
    let refuse = |text: String| InputError(format!("{path:?} {text}"));
    let file = TensorFile::open(path).or_input()?;
    // A policy of images alone has them as its states.
    let images_alone = config.row_width() == 0;
    let (state, kind) = match config.image_shape {
        Some(shape) if images_alone => (shape.to_vec(), Kind::Uint8),
        _ => (vec![config.numbers()], Kind::Float),
    };
    let (batch, steps) = match file.shape("states") {
        Some([batch, steps, shape @ ..]) if *shape == state && *batch > 0 && *steps > 0 => (*batch, *steps),
        found => {
            let found =
                found.map_or("no `states`".to_owned(), |shape| format!("`states` with shape {shape:?}"));
            let sizes: Vec<String> = state.iter().map(ToString::to_string).collect();
            return Err(refuse(format!("holds {found}, expected [B, T, {}]", sizes.join(", "))).into());
        }
    };
    let tokens = steps.saturating_mul(config.token_order.len() as i64);
    if config.global_positions && tokens > config.n_positions {
        let text =
            format!("holds {tokens} tokens a window, and the policy has {} positions", config.n_positions);
        return Err(refuse(text).into());
    }
    let shaped = |name: &str, shape: &[i64], kind: Kind| -> anyhow::Result<Tensor> {
        match file.shape(name) {
            Some(found) if found == shape => Ok(file.read(name).or_input()?.to_kind(kind)),
            Some(found) => {
                Err(refuse(format!("holds `{name}` with shape {found:?}, expected {shape:?}")).into())
            }
            None => Err(refuse(format!("lacks `{name}`")).into()),
        }
    };
    let timesteps = shaped("timesteps", &[batch, steps], Kind::Int64)?;
    let (least, greatest) = (timesteps.min().int64_value(&[]), timesteps.max().int64_value(&[]));
    if least < 0 || greatest >= config.max_ep_len {
        let text = format!("holds `timesteps` from {least} to {greatest}, expected 0..{}", config.max_ep_len);
        return Err(refuse(text).into());
    }
    let rewards = match config.reads(Token::Reward) {
        true => Some(shaped("rewards", &[batch, steps, 1], Kind::Float)?),
        false => None,
    };
    let of_step = |shape: &[i64]| [&[batch, steps], shape].concat();
    let states = shaped("states", &of_step(&state), kind)?;
    let words = match &config.text {
        None => None,
        Some(text) => {
            let words = shaped("words", &of_step(&[text.longest as i64]), Kind::Int64)?;
            let (least, greatest) = (words.min().int64_value(&[]), words.max().int64_value(&[]));
            if least < 0 || greatest > text.words.len() as i64 {
                let last = text.words.len();
                return Err(
                    refuse(format!("holds `words` from {least} to {greatest}, expected 0..={last}")).into()
                );
            }
            Some(words)
        }
    };
    let previous = match config.reads_previous() {
        false => None,
        true => Some(Previous {
            // A policy with tokens of actions has those before a step there.
            actions: match config.reads(Token::Action) {
                true => Tensor::zeros([batch, steps, config.act_dim], (Kind::Float, Device::Cpu)),
                false => shaped("previous_actions", &[batch, steps, config.act_dim], Kind::Float)?,
            },
            rewards: shaped("previous_rewards", &[batch, steps, 1], Kind::Float)?,
        }),
    };
    // What a policy is not told need not be there.
    let where_read = |token: Token, name: &str, width: i64| match config.reads(token) {
        true => shaped(name, &[batch, steps, width], Kind::Float),
        false => Ok(Tensor::zeros([batch, steps, width], (Kind::Float, Device::Cpu))),
    };
    let (states, images) = match config.image_shape {
        None => (states, None),
        Some(_) if images_alone => {
            (Tensor::zeros([batch, steps, 0], (Kind::Float, Device::Cpu)), Some(states))
        }
        Some(shape) => (states, Some(shaped("images", &of_step(&shape), Kind::Uint8)?)),
    };
    Ok(Inputs {
        states,
        words,
        images,
        previous,
        actions: where_read(Token::Action, "actions", config.act_dim)?,
        rewards,
        returns_to_go: where_read(Token::Return, "returns_to_go", 1)?,
        timesteps,
        // As in transformers, every step is real where nobody says.
        mask: match file.shape("attention_mask") {
            Some(_) => shaped("attention_mask", &[batch, steps], Kind::Bool)?,
            None => Tensor::ones([batch, steps], (Kind::Bool, Device::Cpu)),
        },
    })
}
