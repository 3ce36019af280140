//! What a checkpoint holds beside the adapter or policy, written and read back.

use std::collections::HashMap;

use anyhow::Context;
use eva_rl_envs::Phase;
use tch::Tensor;

use crate::config::RunPlan;
use crate::data::{Replay, Trajectory};
use crate::evaluation::Evaluated;
use crate::learner::Learner;
use crate::run_dir::{RunDir, RunState};

/// Saves the learner, the replay and where the run stands.
pub fn save(
    run_dir: &RunDir,
    state: &mut RunState,
    learner: &Learner,
    replay: Option<&Replay>,
) -> anyhow::Result<()> {
    let mut tensors = learner.state();
    state.replay_lengths.clear();
    if let Some(replay) = replay {
        let (mut observations, mut actions, mut rewards) = (vec![], vec![], vec![]);
        for trajectory in replay.trajectories() {
            state.replay_lengths.push(trajectory.len());
            observations.extend_from_slice(&trajectory.observations);
            actions.extend_from_slice(&trajectory.actions);
            rewards.extend_from_slice(&trajectory.rewards);
        }
        for (name, numbers) in [("observations", observations), ("actions", actions), ("rewards", rewards)] {
            tensors.push((format!("replay.{name}"), Tensor::from_slice(&numbers)));
        }
    }
    run_dir.save(state, &tensors, |folder| learner.write(folder))
}

/// The replay as it was; none before the first round.
pub fn read_replay(
    plan: &RunPlan,
    state: &RunState,
    tensors: &HashMap<String, Tensor>,
    observation_width: usize,
    action_width: usize,
) -> anyhow::Result<Option<Replay>> {
    let Some(online) = plan.online.as_ref().filter(|_| state.rounds > 0) else { return Ok(None) };
    let list = |name: &str| -> anyhow::Result<Vec<f32>> {
        let tensor = tensors.get(&format!("replay.{name}"));
        let tensor = tensor.with_context(|| format!("the checkpoint lacks `replay.{name}`"))?;
        Ok(Vec::try_from(tensor.to_kind(tch::Kind::Float))?)
    };
    let (observations, actions) = (list("observations")?, list("actions")?);
    let rewards = list("rewards")?;
    let steps: usize = state.replay_lengths.iter().sum();
    let episodes = state.replay_lengths.len();
    let fits = observations.len() == (steps + episodes) * observation_width
        && actions.len() == steps * action_width
        && rewards.len() == steps;
    anyhow::ensure!(fits, "the checkpoint's replay does not have the lengths that its state.json says");
    let mut replay = Replay::new(online.replay_capacity, observation_width, action_width);
    let (mut from, mut rows) = (0, 0);
    for length in &state.replay_lengths {
        replay.push(Trajectory {
            observations: observations[rows * observation_width..][..(length + 1) * observation_width]
                .to_vec(),
            actions: actions[from * action_width..][..length * action_width].to_vec(),
            rewards: rewards[from..][..*length].to_vec(),
            end: Phase::Running, // windows do not ask
            succeeded: false,
        });
        from += length;
        rows += length + 1;
    }
    Ok(Some(replay))
}

/// The evaluations up to the checkpoint's update.
pub fn read_evaluations(run_dir: &RunDir, updates: usize) -> anyhow::Result<Vec<Evaluated>> {
    let path = run_dir.root().join("evaluation.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))?;
    let mut evaluations: Vec<Evaluated> =
        serde_json::from_str(&text).with_context(|| format!("{path:?} is no list of evaluations"))?;
    evaluations.retain(|evaluation| evaluation.updates <= updates);
    Ok(evaluations)
}
