//! `predict`: one forward pass on given inputs, as transformers' model would make it.

use std::path::Path;

use anyhow::Context;
use eva_rl_agents::adapter::AdapterSet;
use eva_rl_agents::model::{Inputs, Policy, PolicyConfig};
use eva_rl_agents::pass::{NoTap, Pass};
use eva_rl_agents::site::Token;
use eva_rl_agents::tensor_file::{self, TensorFile};
use tch::{Device, Kind, Tensor};

use super::print;
use crate::agent;
use crate::cli::PredictArgs;
use crate::failure::{InputError, OrInput};
use crate::output::refuse_existing;

/// Runs `predict`.
pub fn run(args: PredictArgs) -> anyhow::Result<()> {
    refuse_existing(&args.out)?;
    let predictions = match &args.adapter {
        None => {
            let policy = agent::read_policy(&args.policy, args.statistics.file(), Device::Cpu)?;
            let inputs = read_inputs(&args.inputs, policy.config())?;
            predict(&policy, &AdapterSet::default(), &inputs)?
        }
        Some(folder) => {
            let policy = agent::read_transformer(&args.policy, args.statistics.file(), Device::Cpu)?;
            let (_, adapters) = agent::read_adapter(folder, &policy)?;
            let inputs = read_inputs(&args.inputs, policy.config())?;
            predict(&Policy::Transformer(policy.with_replaced(&adapters)), &adapters, &inputs)?
        }
    };
    tensor_file::write(&predictions, &args.out).with_context(|| format!("cannot write {:?}", args.out))?;
    print(&format!("the predictions are in {}", args.out.display()))
}

/// What the policy says, by the names in the output file.
fn predict(policy: &Policy, adapters: &AdapterSet, inputs: &Inputs) -> anyhow::Result<Vec<(String, Tensor)>> {
    let named = |name: &str, tensor: Tensor| (name.to_owned(), tensor.to_kind(Kind::Float));
    let mut found = Vec::new();
    match policy {
        Policy::Transformer(policy) => {
            let mut pass = Pass { adapters, tap: &mut NoTap, train: false };
            let predictions = tch::no_grad(|| policy.forward(&mut pass, inputs));
            found.push(named("action_preds", predictions.actions));
            found.push(named("state_preds", predictions.states));
            found.push(named("return_preds", predictions.returns));
            found.extend(predictions.action_logits.map(|logits| named("action_logits", logits)));
        }
        Policy::TorchScript(script) => {
            let predictions = tch::no_grad(|| script.forward(inputs)).or_input()?;
            found.push(named("action_preds", predictions.actions));
            found.extend(predictions.states.map(|states| named("state_preds", states)));
            found.extend(predictions.returns.map(|returns| named("return_preds", returns)));
        }
    }
    Ok(found)
}

/// The tensors, with the shapes that the policy asks for.
fn read_inputs(path: &Path, config: &PolicyConfig) -> anyhow::Result<Inputs> {
    let refuse = |text: String| InputError(format!("{path:?} {text}"));
    let file = TensorFile::open(path).or_input()?;
    let (batch, steps) = match file.shape("states") {
        Some(&[batch, steps, width]) if width == config.state_dim && batch > 0 && steps > 0 => (batch, steps),
        found => {
            let found =
                found.map_or("no `states`".to_owned(), |shape| format!("`states` with shape {shape:?}"));
            return Err(refuse(format!("holds {found}, and [B, T, {}] is wanted", config.state_dim)).into());
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
                Err(refuse(format!("holds `{name}` with shape {found:?}, and {shape:?} is wanted")).into())
            }
            None => Err(refuse(format!("lacks `{name}`")).into()),
        }
    };
    let timesteps = shaped("timesteps", &[batch, steps], Kind::Int64)?;
    let (least, greatest) = (timesteps.min().int64_value(&[]), timesteps.max().int64_value(&[]));
    if least < 0 || greatest >= config.max_ep_len {
        let text =
            format!("holds `timesteps` from {least} to {greatest}, and 0..{} is wanted", config.max_ep_len);
        return Err(refuse(text).into());
    }
    let rewards = match config.place(Token::Reward) {
        Some(_) => Some(shaped("rewards", &[batch, steps, 1], Kind::Float)?),
        None => None,
    };
    Ok(Inputs {
        states: shaped("states", &[batch, steps, config.state_dim], Kind::Float)?,
        actions: shaped("actions", &[batch, steps, config.act_dim], Kind::Float)?,
        rewards,
        returns_to_go: shaped("returns_to_go", &[batch, steps, 1], Kind::Float)?,
        timesteps,
        mask: shaped("attention_mask", &[batch, steps], Kind::Bool)?,
    })
}
