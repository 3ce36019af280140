//! Cases of JAT.

use std::path::Path;

use eva_rl_agents::loss::{behaviour_cloning, next_observation};
use eva_rl_agents::model::{
    ActionKind, ForwardContext, Given, Inputs, Policy, Previous, Spaces, TransformerPolicy,
};
use eva_rl_envs::ActionSpace;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::case::{Case, Tolerance};
use super::episode::new_episode;
use super::kinds;
use crate::policies;
use crate::rollout::{ActionSelection, Inference, PolicyActor};
use crate::support::errors::{InputError, OrInput};

/// Of all arrays.
const TOLERANCE: Tolerance = Tolerance { absolute: 1e-4, relative: 1e-4 };

/// Plays the folder's cases.
pub fn play(folder: &Path, meta: &Value) -> anyhow::Result<Vec<Case>> {
    kinds::play(folder, meta, TOLERANCE, [forward, rollout])
}

/// The folder's policy, for these spaces.
fn read_policy(folder: &Path, spaces: &Spaces) -> anyhow::Result<TransformerPolicy> {
    let policy = policies::read_transformer(folder, Given::default(), Device::Cpu)?;
    policy.fitted(spaces).or_input()
}

/// Numbers of texts, one after another.
fn text(folder: &Path, case: &mut Case) -> anyhow::Result<()> {
    let _guard = tch::no_grad_guard();
    let policy = policies::read_transformer(folder, Given::default(), Device::Cpu)?;
    let ids = case.array("in.input_ids")?; // [B, L]
    let logits = policy.text_logits(&mut ForwardContext::bare(), &ids).expect("the family reads texts");
    case.compare("out.logits", &logits)?;
    let later = ids.size()[1] - 1;
    let loss = logits
        .narrow(1, 0, later)
        .flatten(0, 1)
        .cross_entropy_for_logits(&ids.narrow(1, 1, later).flatten(0, 1));
    case.compare("out.loss", &loss.view([1]))
}

/// What a case shows: its observations under the name that it has for them, and what kind they are of.
struct Shown {
    observations: Tensor,
    numbers: i64,
    ids: bool,
    image: Option<[i64; 3]>,
}

/// `end` is `s` where the case has windows of observations.
fn shown(case: &Case, end: &str) -> anyhow::Result<Shown> {
    let vector = format!("in.continuous_observation{end}");
    let ids = ["in.discrete_observations", "in.discrete_observation_with_text"];
    let images = [format!("in.image_observation{end}_uint8"), format!("in.image_observation{end}")];
    if case.holds(&vector) {
        let observations = case.array(&vector)?;
        let numbers = *observations.size().last().unwrap_or(&0);
        return Ok(Shown { observations, numbers, ids: false, image: None });
    }
    if let Some(name) = ids.into_iter().find(|name| case.holds(name)) {
        let observations = case.array(name)?.to_kind(Kind::Float);
        let numbers = *observations.size().last().unwrap_or(&0);
        return Ok(Shown { observations, numbers, ids: true, image: None });
    }
    let name = images.iter().find(|name| case.holds(name)).unwrap_or(&images[0]);
    let observations = case.array(name)?.movedim_int(-1, -3); // […, C, H, W]
    let [.., channels, height, width] = *observations.size() else {
        return Err(InputError(format!("`{name}` are no images")).into());
    };
    Ok(Shown { observations, numbers: 0, ids: false, image: Some([channels, height, width]) })
}

/// Texts, or windows as they are trained on, padded on the right.
fn forward(folder: &Path, facts: &Value, case: &mut Case) -> anyhow::Result<()> {
    if case.holds("in.input_ids") {
        return text(folder, case);
    }
    let _guard = tch::no_grad_guard();
    let Shown { observations, numbers, ids, image } = shown(case, "s")?;
    let mask = case.array("in.attention_mask")?.to_kind(Kind::Bool); // [B, T]
    let (batch, steps) = mask.size2().or_input()?;
    let discrete = case.holds("in.discrete_actions");
    let actions = case.array(if discrete { "in.discrete_actions" } else { "in.continuous_actions" })?;
    let (action_kind, act_dim) = match discrete {
        true => (ActionKind::Discrete, *case.array("out.pred_actions")?.size().last().unwrap_or(&1)),
        false => (ActionKind::Continuous, actions.size()[2]),
    };
    let policy = read_policy(folder, &Spaces { numbers, ids, grid: None, image, action_kind, act_dim })?;
    let float = (Kind::Float, Device::Cpu);
    let inputs = Inputs {
        states: if image.is_some() {
            Tensor::zeros([batch, steps, 0], float)
        } else {
            observations.shallow_clone()
        },
        words: None,
        images: image.map(|_| observations.shallow_clone()),
        previous: Some(Previous {
            actions: Tensor::zeros([batch, steps, act_dim], float),
            rewards: case.array("in.rewards")?.to_kind(Kind::Float).unsqueeze(-1),
        }),
        actions: if discrete { actions.one_hot(act_dim).to_kind(Kind::Float) } else { actions },
        rewards: None,
        returns_to_go: Tensor::zeros([batch, steps, 1], float),
        timesteps: Tensor::zeros([batch, steps], (Kind::Int64, Device::Cpu)),
        mask: mask.shallow_clone(),
    };
    let bare = &mut ForwardContext::bare();
    let real = mask.to_kind(Kind::Float).unsqueeze(-1); // [B, T, 1]
    let found = policy.forward(bare, &inputs);
    case.compare("out.pred_actions", &(found.actions * &real))?;
    if let Some(states) = found.states {
        case.compare("out.pred_observations", &(states * &real))?;
    }
    if let Some(images) = found.images {
        case.compare("out.pred_observations", &images.narrow(0, 0, 1).narrow(1, 0, 2))?;
    }
    let of_tokens = real.repeat_interleave_self_int(2, 1, None);
    for (index, hidden) in policy.hidden_states(bare, &inputs).into_iter().enumerate() {
        case.compare(&format!("out.hidden.{index}"), &(hidden * &of_tokens))?;
    }
    // The reference weighs the losses of its tasks, and of actions and observations.
    let weight = facts["loss_weight"].as_f64().unwrap_or(1.0);
    let of_config = |key: &str| policy.config().other.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    let action = behaviour_cloning(&policy, bare, &inputs) * weight;
    let observation = next_observation(&policy, bare, &inputs).map(|loss| loss * weight);
    case.compare("out.action_loss", &action.view([1]))?;
    if let Some(observation) = &observation {
        case.compare("out.observation_loss", &observation.view([1]))?;
    }
    let observation = observation.map_or(0.0, |loss| loss.double_value(&[]));
    let loss = action * of_config("action_loss_coef") + observation * of_config("observation_loss_coef");
    case.compare("out.loss", &loss.view([1]))
}

/// Episodes, acted step by step as the reference acts; the environment is the case's.
fn rollout(folder: &Path, facts: &Value, case: &mut Case) -> anyhow::Result<()> {
    let numbers_of = |name: &str| -> anyhow::Result<Vec<f32>> {
        Vec::try_from(case.array(name)?.to_kind(Kind::Float).flatten(0, -1)).or_input()
    };
    let Shown { observations, numbers, ids, image } = shown(case, "")?;
    let discrete = case.holds("out.logits");
    let act_dim =
        *case.array(if discrete { "out.logits" } else { "out.action" })?.size().last().unwrap_or(&1);
    let action_kind = if discrete { ActionKind::Discrete } else { ActionKind::Continuous };
    let policy = read_policy(folder, &Spaces { numbers, ids, grid: None, image, action_kind, act_dim })?;
    let space = match discrete {
        true => ActionSpace::Discrete { n: act_dim as usize, start: 0 },
        false => ActionSpace::Box { low: vec![-1.0; act_dim as usize], high: vec![1.0; act_dim as usize] },
    };
    let mut conditioning = policies::conditioning(policy.config(), Device::Cpu, folder, None)?;
    // In tokens, two a step; as many as there are positions where the case does not say.
    let tokens = facts["context_window"].as_i64().unwrap_or(policy.config().n_positions);
    conditioning.context_length = (tokens / 2) as usize;
    let policy = Policy::Transformer(policy);
    let choice = ActionSelection::Greedy(&policy);
    let PolicyActor::Transformer(mut actor) =
        PolicyActor::new(choice, &conditioning, 0.0, &space, Inference::Reference)
    else {
        unreachable!("it is a transformer");
    };

    let (begins, rewards) = (numbers_of("in.episode_start")?, numbers_of("in.reward")?);
    let shape = image.map(|shape| shape.map(|size| size as usize));
    let mut episode = new_episode(0, shape);
    let (mut chosen, mut logits, mut held) = (Vec::new(), Vec::new(), Vec::new());
    for (step, begins) in begins.into_iter().enumerate() {
        if begins > 0.0 {
            episode = new_episode(episode.number + 1, shape);
        } else {
            episode.trajectory.rewards.push(rewards[step]);
            episode.earned.push(0.0); // nobody asks for a return
        }
        held.push(if begins > 0.0 { 0 } else { actor.held(0) });
        let shown = observations.get(step as i64).flatten(0, -1);
        match image {
            Some(_) => episode.trajectory.images.to_mut().push(&Vec::<u8>::try_from(shown).or_input()?),
            None => {
                let shown = Vec::<f32>::try_from(shown).or_input()?;
                episode.trajectory.observations.to_mut().extend_from_slice(&shown);
            }
        }
        let mut action = vec![0.0; space.width()];
        logits.push(actor.act_and_tell(std::slice::from_mut(&mut episode), &mut action)?);
        episode.trajectory.actions.to_mut().extend_from_slice(&action);
        chosen.extend_from_slice(actor.histories.as_ref().expect("it reads what was before").chosen(0));
    }
    case.compare("cache_len_before", &Tensor::from_slice(&held))?;
    let chosen = Tensor::from_slice(&chosen);
    if discrete {
        case.compare("out.logits", &Tensor::cat(&logits, 0))?;
        return case.compare("out.action", &chosen);
    }
    case.compare("out.action", &chosen.view([-1, act_dim]))
}
