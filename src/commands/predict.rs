//! `predict`: one forward pass on given inputs, as transformers' model would make it.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context;
use eva_rl_agents::adapter::AdapterSet;
use eva_rl_agents::model::{Inputs, PolicyConfig};
use eva_rl_agents::pass::{NoTap, Pass};
use eva_rl_agents::{first_line, safetensors};
use tch::{Device, Kind, Tensor};

use super::print;
use crate::agent;
use crate::cli::PredictArgs;
use crate::failure::InputError;
use crate::output::refuse_existing;

/// Runs `predict`.
pub fn run(args: PredictArgs) -> anyhow::Result<()> {
    refuse_existing(&args.out)?;
    let policy = agent::read_policy(&args.policy, Device::Cpu)?;
    let adapters = match &args.adapter {
        Some(folder) => agent::read_adapter(folder, &policy)?.1,
        None => AdapterSet::default(),
    };
    let inputs = read_inputs(&args.inputs, policy.config())?;
    let mut pass = Pass { adapters: &adapters, tap: &mut NoTap, train: false };
    let predictions = tch::no_grad(|| policy.forward(&mut pass, &inputs));
    let named = [
        ("action_preds".to_owned(), predictions.actions),
        ("state_preds".to_owned(), predictions.states),
        ("return_preds".to_owned(), predictions.returns),
    ];
    safetensors::write(&named, &args.out).with_context(|| format!("cannot write {:?}", args.out))?;
    print(&format!("the predictions are in {}", args.out.display()))
}

/// The five tensors, with the shapes that the policy asks for.
fn read_inputs(path: &Path, config: &PolicyConfig) -> anyhow::Result<Inputs> {
    let refuse = |text: String| InputError(format!("{path:?} {text}"));
    let tensors =
        safetensors::read(path).map_err(|error| refuse(format!("cannot be read: {}", first_line(&error))))?;
    let tensors: HashMap<String, Tensor> = tensors.into_iter().collect();
    let find = |name: &str| tensors.get(name).ok_or_else(|| refuse(format!("lacks `{name}`")));
    let states = find("states")?;
    let (batch, steps) = match states.size()[..] {
        [batch, steps, width] if width == config.state_dim && batch > 0 && steps > 0 => (batch, steps),
        _ => {
            let text = format!(
                "holds `states` with shape {:?}, and [B, T, {}] is wanted",
                states.size(),
                config.state_dim
            );
            return Err(refuse(text).into());
        }
    };
    let shaped = |name: &str, shape: &[i64], kind: Kind| -> anyhow::Result<Tensor> {
        let tensor = find(name)?;
        if tensor.size() != shape {
            let text = format!("holds `{name}` with shape {:?}, and {shape:?} is wanted", tensor.size());
            return Err(refuse(text).into());
        }
        Ok(tensor.to_kind(kind))
    };
    let timesteps = shaped("timesteps", &[batch, steps], Kind::Int64)?;
    let (least, greatest) = (timesteps.min().int64_value(&[]), timesteps.max().int64_value(&[]));
    if least < 0 || greatest >= config.max_ep_len {
        let text =
            format!("holds `timesteps` from {least} to {greatest}, and 0..{} is wanted", config.max_ep_len);
        return Err(refuse(text).into());
    }
    Ok(Inputs {
        states: shaped("states", &[batch, steps, config.state_dim], Kind::Float)?,
        actions: shaped("actions", &[batch, steps, config.act_dim], Kind::Float)?,
        returns_to_go: shaped("returns_to_go", &[batch, steps, 1], Kind::Float)?,
        timesteps,
        mask: shaped("attention_mask", &[batch, steps], Kind::Bool)?,
    })
}
