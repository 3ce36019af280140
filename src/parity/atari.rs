//! Cases of the Atari decision transformer.

use std::path::Path;

use eva_rl_agents::loss::behaviour_cloning;
use eva_rl_agents::model::{ForwardContext, Given, Inputs, Policy, Token, TransformerPolicy};
use eva_rl_envs::ActionSpace;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::case::{Case, Tolerance};
use super::episode::new_episode;
use crate::policies;
use crate::rollout::{ActionSelection, Inference, PolicyActor};
use crate::support::errors::{InputError, OrInput};

/// Of all arrays.
const TOLERANCE: Tolerance = Tolerance { absolute: 2e-5, relative: 0.0 };

/// Plays the folder's cases.
pub fn play(folder: &Path, meta: &Value) -> anyhow::Result<Vec<Case>> {
    let heads = meta["variant"]["heads"].as_i64().ok_or_else(|| {
        InputError(format!(
            "{:?} lacks `variant.heads`, which no file of weights says",
            folder.join("meta.json")
        ))
    })?;
    let policy = read_policy(folder, heads)?;
    let mut cases = Vec::new();
    for name in meta["cases"].as_object().into_iter().flat_map(|cases| cases.keys()) {
        let mut case = Case::open(folder, name, TOLERANCE)?;
        match name.as_str() {
            "window" => window(&policy, &mut case)?,
            "short" => short(&policy, &mut case)?,
            "rollout" => rollout(folder, heads, &mut case)?,
            other => {
                let text = format!("in {folder:?}, the case is {other:?}, expected window, short or rollout");
                return Err(InputError(text).into());
            }
        }
        cases.push(case.finish()?);
    }
    Ok(cases)
}

/// The policy of the folder's weights, beside which a config says the number of heads.
fn read_policy(folder: &Path, heads: i64) -> anyhow::Result<TransformerPolicy> {
    let beside = tempfile::tempdir()?;
    let config = json!({ "model_type": "decision_transformer_atari", "n_head": heads });
    std::fs::write(beside.path().join("config.json"), config.to_string())?;
    let weights = folder.join("model.pth");
    std::fs::copy(&weights, beside.path().join("model.pth"))
        .map_err(|error| InputError(format!("cannot read {weights:?}: {error}")))?;
    policies::read_transformer(beside.path(), Given::default(), Device::Cpu)
}

/// The first `steps` steps of the case's windows as the policy reads them.
fn inputs(case: &Case, policy: &TransformerPolicy, steps: Option<i64>) -> anyhow::Result<Inputs> {
    let states = case.array("in.states_uint8")?;
    let (batch, steps) = (states.size()[0], steps.unwrap_or(states.size()[1]));
    let part = |name: &str| anyhow::Ok(case.array(name)?.narrow(1, 0, steps));
    let actions = part("in.actions")?.squeeze_dim(-1); // [B, T]
    Ok(Inputs {
        states: Tensor::zeros([batch, steps, 0], (Kind::Float, Device::Cpu)),
        words: None,
        images: Some(states.narrow(1, 0, steps)),
        previous: None,
        actions: actions.one_hot(policy.config().act_dim).to_kind(Kind::Float),
        rewards: None,
        returns_to_go: part("in.rtgs")?.to_kind(Kind::Float),
        timesteps: case.array("in.timesteps")?.view([batch, 1]).expand([batch, steps], true).contiguous(),
        mask: Tensor::ones([batch, steps], (Kind::Bool, Device::Cpu)),
    })
}

/// A window as it is trained on.
fn window(policy: &TransformerPolicy, case: &mut Case) -> anyhow::Result<()> {
    let _guard = tch::no_grad_guard();
    let inputs = inputs(case, policy, None)?;
    let bare = &mut ForwardContext::bare();
    case.compare("out.logits", &policy.forward(bare, &inputs).actions)?;
    case.compare("out.loss", &behaviour_cloning(policy, bare, &inputs).view([1]))?;
    case.compare("out.state_embeddings", &policy.embed(bare, &inputs, Token::State))?;
    case.compare("out.first_block_input", &policy.trunk_inputs(bare, &inputs))?;
    case.compare("out.after_ln_f", &policy.encode(bare, &inputs))
}

/// Windows that grow, whose last action is still to be chosen.
fn short(policy: &TransformerPolicy, case: &mut Case) -> anyhow::Result<()> {
    let _guard = tch::no_grad_guard();
    for steps in 1..=case.array("in.states_uint8")?.size()[1] {
        let inputs = inputs(case, policy, Some(steps))?;
        let logits = policy.forward(&mut ForwardContext::bare(), &inputs).actions; // [1, T, A]
        case.compare(&format!("out.logits.T{steps}"), &logits)?;
    }
    Ok(())
}

/// An episode, acted step by step; the environment is the case's.
fn rollout(folder: &Path, heads: i64, case: &mut Case) -> anyhow::Result<()> {
    let numbers = |case: &Case, name: &str| -> anyhow::Result<Vec<f32>> {
        Vec::try_from(case.array(name)?.to_kind(Kind::Float)).or_input()
    };
    let policy = read_policy(folder, heads)?;
    let target = numbers(case, "in.target_return")?.first().copied();
    let conditioning = policies::conditioning(policy.config(), Device::Cpu, folder, target)?;
    let target = conditioning.target_return;
    let space = ActionSpace::Discrete { n: policy.config().act_dim as usize, start: 0 };
    let shape = conditioning.image_shape().expect("the family reads images").map(|size| size as usize);
    let policy = Policy::Transformer(policy);
    let choice = ActionSelection::Greedy(&policy);
    let PolicyActor::Transformer(mut actor) =
        PolicyActor::new(choice, &conditioning, target, &space, Inference::Window)
    else {
        unreachable!("it is a transformer");
    };

    let (rewards, states) = (numbers(case, "in.reward")?, case.array("in.states_uint8")?);
    let mut live = [new_episode(0, Some(shape))];
    let (mut logits, mut actions, mut returns, mut timesteps) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (step, reward) in rewards.into_iter().enumerate() {
        let image: Vec<u8> = Vec::try_from(states.get(step as i64).flatten(0, -1)).or_input()?;
        live[0].trajectory.images.to_mut().push(&image);
        let read = actor.windows_of.whole_windows(&live);
        returns
            .push(read.returns_to_go.view(-1).get(-1).double_value(&[]) as f32 * conditioning.return_scale);
        timesteps.push(read.timesteps.view(-1).get(-1).int64_value(&[]));
        let mut action = [0.0];
        logits.push(actor.act_and_tell(&mut live, &mut action)?); // [1, A]
        actions.push(action[0]);
        let episode = &mut live[0];
        episode.trajectory.actions.to_mut().push(action[0]);
        episode.trajectory.rewards.push(reward);
        episode.earned.push(episode.earned.last().copied().unwrap_or(0.0) + reward);
    }
    case.compare("out.logits", &Tensor::cat(&logits, 0))?;
    case.compare("out.action", &Tensor::from_slice(&actions))?;
    case.compare("rtg", &Tensor::from_slice(&returns))?;
    case.compare("timestep", &Tensor::from_slice(&timesteps))
}
