//! Cases of Vintix.

use std::path::Path;

use eva_rl_agents::loss::behaviour_cloning;
use eva_rl_agents::model::{ForwardContext, Given, Inputs, Policy, Previous, TransformerPolicy};
use eva_rl_envs::ActionSpace;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::case::{Case, Tolerance};
use super::episode::new_episode;
use super::kinds;
use crate::policies;
use crate::rollout::{ActionSelection, Actor, Histories, Inference, PolicyActor, Prompt};
use crate::support::errors::OrInput;

/// Of all arrays.
const TOLERANCE: Tolerance = Tolerance { absolute: 2e-5, relative: 0.0 };

/// Plays the folder's cases.
pub fn play(folder: &Path, meta: &Value) -> anyhow::Result<Vec<Case>> {
    kinds::play(folder, meta, TOLERANCE, [forward, rollout])
}

/// The folder's policy, which plays this task.
fn read_policy(folder: &Path, task: &Value) -> anyhow::Result<TransformerPolicy> {
    let given = Given { task: task.as_str(), ..Given::default() };
    policies::read_transformer(folder, given, Device::Cpu)
}

/// A training batch: a trajectory of each task, all equally long.
fn forward(folder: &Path, facts: &Value, case: &mut Case) -> anyhow::Result<()> {
    let _guard = tch::no_grad_guard();
    let (mut tokens, mut hidden, mut losses) = (Vec::new(), Vec::new(), Vec::new());
    for (index, task) in facts["tasks"].as_array().into_iter().flatten().enumerate() {
        let policy = read_policy(folder, task)?;
        let inputs = inputs(case, &policy, folder, &format!("in.{index}"))?;
        let bare = &mut ForwardContext::bare();
        case.compare(&format!("out.{index}.pred"), &policy.forward(bare, &inputs).actions.squeeze_dim(0))?;
        tokens.push(policy.trunk_inputs(bare, &inputs));
        hidden.push(policy.encode(bare, &inputs));
        losses.push(behaviour_cloning(&policy, bare, &inputs));
    }
    case.compare("out.tokens", &Tensor::cat(&tokens, 0))?;
    case.compare("out.hidden", &Tensor::cat(&hidden, 0))?;
    let losses = Tensor::stack(&losses, 0);
    case.compare("out.loss_items", &losses)?;
    // The reference adds its trajectories' losses up; ours is their mean.
    case.compare("out.loss", &losses.sum(Kind::Float).view([1]))
}

/// One trajectory of the case as the policy reads it.
fn inputs(case: &Case, policy: &TransformerPolicy, folder: &Path, name: &str) -> anyhow::Result<Inputs> {
    let conditioning = policies::conditioning(policy.config(), Device::Cpu, folder, None)?;
    let part = |part: &str| anyhow::Ok(case.array(&format!("{name}.{part}"))?.unsqueeze(0));
    let observations = part("observation")?; // [1, T, S]
    let (_, steps, _) = observations.size3().or_input()?;
    let float = (Kind::Float, Device::Cpu);
    Ok(Inputs {
        states: conditioning.normalised(&observations),
        words: None,
        images: None,
        previous: Some(Previous {
            actions: part("prev_action")?,
            rewards: part("prev_reward")? / f64::from(conditioning.return_scale),
        }),
        actions: part("action")?,
        rewards: None,
        returns_to_go: Tensor::zeros([1, steps, 1], float),
        timesteps: part("step_num")?,
        mask: Tensor::ones([1, steps], (Kind::Bool, Device::Cpu)),
    })
}

/// Episodes of one task, acted step by step; the environment is the case's.
fn rollout(folder: &Path, facts: &Value, case: &mut Case) -> anyhow::Result<()> {
    let numbers = |case: &Case, name: &str| -> anyhow::Result<Vec<f32>> {
        Vec::try_from(case.array(name)?.to_kind(Kind::Float).flatten(0, -1)).or_input()
    };
    let policy = read_policy(folder, &facts["task"])?;
    let conditioning = policies::conditioning(policy.config(), Device::Cpu, folder, None)?;
    let (width, action_width) = (conditioning.row_width(), policy.config().act_dim as usize);
    let bounds = vec![1.0; action_width];
    let space = ActionSpace::Box { low: bounds.iter().map(|bound| -bound).collect(), high: bounds };
    let policy = Policy::Transformer(policy);
    let inference =
        if facts["use_cache"].as_bool() == Some(true) { Inference::Reference } else { Inference::Window };
    let choice = ActionSelection::Greedy(&policy);
    let PolicyActor::Transformer(mut actor) = PolicyActor::new(choice, &conditioning, 0.0, &space, inference)
    else {
        unreachable!("it is a transformer");
    };
    let mut histories = Histories::new(1, &conditioning, &space);
    if facts["prompt_len"].as_u64().unwrap_or(0) > 0 {
        let part = |name: &str| numbers(case, &format!("in.prompt.{name}"));
        histories = histories.after(&Prompt {
            observations: part("observation")?,
            actions: part("action")?,
            rewards: part("reward")?,
            timesteps: part("step_num")?.into_iter().map(|step| step as usize).collect(),
        });
    }
    actor.histories = Some(histories);

    let (observations, rewards) = (numbers(case, "in.observation")?, numbers(case, "in.prev_reward")?);
    let begins = numbers(case, "in.episode_start")?;
    let mut episode = new_episode(0, None);
    let mut chosen = Vec::new();
    for (step, begins) in begins.into_iter().enumerate() {
        if begins > 0.0 {
            episode = new_episode(episode.number + 1, None);
        } else {
            episode.trajectory.rewards.push(rewards[step]);
            episode.earned.push(0.0); // nobody asks for a return
        }
        episode.trajectory.observations.to_mut().extend_from_slice(&observations[step * width..][..width]);
        let mut action = vec![0.0; action_width];
        actor.act(std::slice::from_mut(&mut episode), &mut action)?;
        episode.trajectory.actions.to_mut().extend_from_slice(&action);
        chosen.extend_from_slice(actor.histories.as_ref().expect("it was given some").chosen(0));
    }
    let chosen = Tensor::from_slice(&chosen).view([-1, action_width as i64]);
    case.compare("out.action", &chosen)
}
