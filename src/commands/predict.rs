//! `predict`: one forward pass on given inputs, as transformers' model would make it.

use eva_rl_agents::adapter::AdapterSet;
use eva_rl_agents::model::ForwardContext;
use eva_rl_agents::model::{Inputs, Policy};
use eva_rl_agents::tensor::file as tensor_file;
use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use crate::cli::PredictArgs;
use crate::policies;
use crate::policies::read_inputs;
use crate::support::atomic::{refuse_existing, write_file};
use crate::support::errors::OrInput;
use crate::support::stdout::{print, print_json};

/// Runs `predict`.
pub fn run(args: PredictArgs) -> anyhow::Result<()> {
    refuse_existing(&args.out)?;
    let source = args.given.source(&args.policy, args.adapter.as_deref())?;
    let predictions = match &source.adapter {
        None => {
            let policy = policies::read_policy(&source.policy, source.given_to_act(), Device::Cpu)?;
            policies::check_task(policy.config(), &source.policy)?;
            let policy = policies::fitted_to(policy, &args.inputs)?;
            let inputs = read_inputs(&args.inputs, policy.config())?;
            predict(&policy, &AdapterSet::default(), &inputs)?
        }
        Some(folder) => {
            let policy = policies::read_transformer(&source.policy, source.given_to_act(), Device::Cpu)?;
            policies::check_task(policy.config(), &source.policy)?;
            let Policy::Transformer(policy) = policies::fitted_to(Policy::Transformer(policy), &args.inputs)?
            else {
                unreachable!("it is a transformer");
            };
            let (_, adapters) = policies::read_adapter(folder, &policy)?;
            let inputs = read_inputs(&args.inputs, policy.config())?;
            predict(&Policy::Transformer(policy.with_replaced(&adapters)), &adapters, &inputs)?
        }
    };
    write_file(&args.out, |aside| Ok(tensor_file::write(&predictions, aside)?))?;
    if args.json {
        let shapes: Map<String, Value> =
            predictions.iter().map(|(name, tensor)| (name.clone(), json!(tensor.size()))).collect();
        return print_json(&json!({ "predictions": args.out, "shapes": shapes }));
    }
    print(&format!("the predictions are in {}", args.out.display()))
}

/// What the policy says, by the names in the output file.
fn predict(policy: &Policy, adapters: &AdapterSet, inputs: &Inputs) -> anyhow::Result<Vec<(String, Tensor)>> {
    let named = |name: &str, tensor: Tensor| (name.to_owned(), tensor.to_kind(Kind::Float));
    let mut found = Vec::new();
    match policy {
        Policy::Transformer(policy) => {
            let mut pass = ForwardContext::with_adapters(adapters);
            let predictions = tch::no_grad(|| policy.forward(&mut pass, inputs));
            found.push(named("action_preds", predictions.actions));
            found.extend(predictions.states.map(|states| named("state_preds", states)));
            found.extend(predictions.images.map(|images| named("image_preds", images)));
            found.extend(predictions.returns.map(|returns| named("return_preds", returns)));
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
