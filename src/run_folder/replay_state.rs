//! A replay as the tensors of a checkpoint, and back.

use std::collections::HashMap;

use anyhow::Context;
use eva_rl_envs::Phase;
use tch::{Kind, Tensor};

use crate::data::{Frames, Replay, Trajectory};

/// Every trajectory of a replay, oldest first.
pub fn replay_state(replay: &Replay) -> Vec<(String, Tensor)> {
    let (mut observations, mut actions, mut rewards) = (vec![], vec![], vec![]);
    let (mut lengths, mut terminated): (Vec<i64>, Vec<bool>) = (vec![], vec![]);
    for trajectory in replay.trajectories() {
        lengths.push(trajectory.len() as i64);
        terminated.push(trajectory.end == Phase::Terminated);
        observations.extend_from_slice(&trajectory.observations.all());
        actions.extend_from_slice(&trajectory.actions.all());
        rewards.extend_from_slice(&trajectory.rewards);
    }
    vec![
        ("replay.lengths".to_owned(), Tensor::from_slice(&lengths)),
        ("replay.terminated".to_owned(), Tensor::from_slice(&terminated).to_kind(Kind::Int64)),
        ("replay.observations".to_owned(), Tensor::from_slice(&observations)),
        ("replay.actions".to_owned(), Tensor::from_slice(&actions)),
        ("replay.rewards".to_owned(), Tensor::from_slice(&rewards)),
    ]
}

/// Puts the trajectories of a checkpoint into an empty replay; says whether there are any.
pub fn restore_replay(
    replay: &mut Replay,
    tensors: &HashMap<String, Tensor>,
    observation_width: usize,
    action_width: usize,
) -> anyhow::Result<bool> {
    let find = |name: &str| tensors.get(&format!("replay.{name}"));
    let Some(lengths) = find("lengths") else { return Ok(false) };
    let lengths: Vec<i64> = Vec::try_from(lengths)?;
    let numbers = |name: &str| -> anyhow::Result<Vec<f32>> {
        let tensor = find(name).with_context(|| format!("the checkpoint lacks `replay.{name}`"))?;
        Ok(Vec::try_from(tensor)?)
    };
    let terminated: Vec<i64> =
        Vec::try_from(find("terminated").context("the checkpoint lacks `replay.terminated`")?)?;
    let (observations, actions, rewards) =
        (numbers("observations")?, numbers("actions")?, numbers("rewards")?);
    let lengths: Vec<usize> = lengths.into_iter().map(|length| length.max(0) as usize).collect();
    let (steps, episodes) = (lengths.iter().sum::<usize>(), lengths.len());
    let fits = observations.len() == (steps + episodes) * observation_width
        && actions.len() == steps * action_width
        && rewards.len() == steps
        && terminated.len() == episodes;
    anyhow::ensure!(fits, "the checkpoint's replay does not have the lengths that it says");
    let (mut from, mut rows) = (0, 0);
    for (length, terminated) in lengths.iter().zip(terminated) {
        replay.push(Trajectory {
            observations: observations[rows * observation_width..][..(length + 1) * observation_width]
                .to_vec()
                .into(),
            frames: Frames::default(),
            actions: actions[from * action_width..][..length * action_width].to_vec().into(),
            rewards: rewards[from..][..*length].to_vec(),
            end: if terminated == 1 { Phase::Terminated } else { Phase::Running },
            succeeded: None, // windows do not ask
        });
        from += length;
        rows += length + 1;
    }
    Ok(true)
}
