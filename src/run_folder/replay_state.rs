//! A replay as the tensors of a checkpoint, and back.

use std::collections::HashMap;

use std::io::{Read, Write};

use anyhow::Context;
use eva_rl_agents::ranks::Ranks;
use eva_rl_envs::{EnvSpec, Phase};
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use tch::{Kind, Tensor};

use crate::data::{Frames, Images, Replay, Trajectory, pack, pack_list, unpack, unpack_list};

/// The lengths of shards, among a checkpoint's tensors.
const SHARDS: &str = "replay.shards";

/// Every trajectory of a replay, oldest first; images are compressed, because stacked frames of games are small so. Of
/// shards the first rank has all, one after another, and the other ranks have nothing.
pub fn replay_state(replay: &Replay, ranks: &dyn Ranks) -> Vec<(String, Tensor)> {
    if !replay.is_shard() {
        return state_of(&replay.trajectories().collect::<Vec<_>>());
    }
    let own: Vec<Vec<u8>> = replay.trajectories().map(pack).collect();
    let own = pack_list(&own);
    let (mut trajectories, mut lengths) = (Vec::new(), Vec::new());
    for rank in 0..ranks.size() {
        let mut shard = if rank == ranks.rank() { own.clone() } else { Vec::new() };
        ranks.broadcast(rank, &mut shard);
        if ranks.is_first() {
            let shard = unpack_list(&shard).expect("a rank sends what it has packed");
            lengths.push(shard.len() as i64);
            trajectories
                .extend(shard.iter().map(|bytes| unpack(bytes).expect("a rank sends what it has packed")));
        }
    }
    let mut state = state_of(&trajectories.iter().collect::<Vec<_>>());
    state.push((SHARDS.to_owned(), Tensor::from_slice(&lengths)));
    state
}

/// How many trajectories each rank's shard had in a checkpoint of shards.
pub fn shard_lengths(tensors: &HashMap<String, Tensor>) -> Vec<usize> {
    let lengths = tensors.get(SHARDS).and_then(|lengths| Vec::<i64>::try_from(lengths).ok());
    lengths.unwrap_or_default().into_iter().map(|length| length.max(0) as usize).collect()
}

fn state_of(trajectories: &[&Trajectory]) -> Vec<(String, Tensor)> {
    let (mut observations, mut actions, mut rewards) = (vec![], vec![], vec![]);
    let (mut lengths, mut terminated): (Vec<i64>, Vec<bool>) = (vec![], vec![]);
    for trajectory in trajectories {
        lengths.push(trajectory.len() as i64);
        terminated.push(trajectory.end == Phase::Terminated);
        observations.extend_from_slice(&trajectory.observations.all());
        actions.extend_from_slice(&trajectory.actions.all());
        rewards.extend_from_slice(&trajectory.rewards);
    }
    let mut state = vec![
        ("replay.lengths".to_owned(), Tensor::from_slice(&lengths)),
        ("replay.terminated".to_owned(), Tensor::from_slice(&terminated).to_kind(Kind::Int64)),
        ("replay.observations".to_owned(), Tensor::from_slice(&observations)),
        ("replay.actions".to_owned(), Tensor::from_slice(&actions)),
        ("replay.rewards".to_owned(), Tensor::from_slice(&rewards)),
    ];
    if trajectories.iter().any(|trajectory| trajectory.images.size() > 0) {
        let (strides, bytes) = compress_images(trajectories).expect("memory can be written");
        state.push(("replay.image_strides".to_owned(), Tensor::from_slice(&strides)));
        state.push(("replay.images".to_owned(), Tensor::from_slice(&bytes)));
    }
    state
}

/// The images' strides and their compressed bytes, as [`Frames::parts`] has them, of one trajectory after another.
fn compress_images(trajectories: &[&Trajectory]) -> std::io::Result<(Vec<i64>, Vec<u8>)> {
    let mut strides = Vec::new();
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    for trajectory in trajectories {
        let frames = trajectory.images.frames();
        let (stride, bytes) = frames.parts();
        strides.push(stride as i64);
        encoder.write_all(bytes)?;
    }
    Ok((strides, encoder.finish()?))
}

/// The images of trajectories of these lengths, from what [`compress_images`] made of them.
fn restore_images(
    strides: &[i64],
    compressed: &[u8],
    lengths: &[usize],
    shape: [usize; 3],
) -> Option<Vec<Images>> {
    let mut decoder = ZlibDecoder::new(compressed);
    let size = shape.iter().product::<usize>();
    let mut all = Vec::with_capacity(lengths.len());
    for (stride, length) in strides.iter().zip(lengths) {
        let stride = usize::try_from(*stride).ok().filter(|stride| *stride <= size)?;
        let mut bytes = Vec::new();
        let expected = length.checked_mul(stride)?.checked_add(size)?;
        decoder.by_ref().take(expected as u64).read_to_end(&mut bytes).ok()?;
        all.push(Frames::from_parts(shape, length + 1, stride, bytes)?.into());
    }
    Some(all)
}

/// Puts the trajectories of a checkpoint into an empty replay; says whether there are any.
pub fn restore_replay(
    replay: &mut Replay,
    tensors: &HashMap<String, Tensor>,
    spec: &EnvSpec,
) -> anyhow::Result<bool> {
    let (observation_width, action_width) = (spec.observation_width(), spec.action.width());
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
    let images = match spec.image {
        None => vec![Images::default(); episodes],
        Some(shape) => {
            let found =
                |name: &str| find(name).with_context(|| format!("the checkpoint lacks `replay.{name}`"));
            let strides: Vec<i64> = Vec::try_from(found("image_strides")?)?;
            let compressed: Vec<u8> = Vec::try_from(found("images")?)?;
            let images = restore_images(&strides, &compressed, &lengths, shape);
            images
                .filter(|images| images.len() == episodes)
                .context("the checkpoint's replay does not have the images that it says")?
        }
    };
    let (mut from, mut rows) = (0, 0);
    for ((length, terminated), images) in lengths.iter().zip(terminated).zip(images) {
        replay.push(Trajectory {
            observations: observations[rows * observation_width..][..(length + 1) * observation_width]
                .to_vec()
                .into(),
            images,
            actions: actions[from * action_width..][..length * action_width].to_vec().into(),
            rewards: rewards[from..][..*length].to_vec(),
            end: if terminated == 1 { Phase::Terminated } else { Phase::Running },
            infos: Vec::new(),
            succeeded: None, // windows do not ask
        });
        from += length;
        rows += length + 1;
    }
    Ok(true)
}
