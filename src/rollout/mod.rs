//! Whole episodes in a pool of environments, by anything that acts.

mod actors;
mod policy;

use eva_rl_envs::{ActionSpace, EnvSpec, Episodes, Phase, StepBatch, Success, VecEnv};
use rand_chacha::ChaCha8Rng;

use crate::data::Trajectory;
use crate::failure::tell;
use crate::rng::{self, Purpose};

pub use actors::{NoisyActor, RandomActor, ScriptedActor, draw_uniform};
pub use policy::{Choice, Inference, PolicyActor};

/// An episode being played: what an actor may look at.
#[derive(Debug)]
pub struct Live {
    /// The environment's row.
    pub env: usize,
    /// What has happened; one observation more than actions.
    pub trajectory: Trajectory,
    /// Sum of the rewards so far, before each step: one more than rewards.
    pub earned: Vec<f32>,
    /// The episode's own noise, so that it does not depend on its neighbours.
    pub noise: ChaCha8Rng,
}

impl Live {
    /// The latest observation.
    pub fn observation(&self, width: usize) -> &[f32] {
        &self.trajectory.observations[self.trajectory.observations.len() - width..]
    }
}

/// Anything that chooses actions.
pub trait Actor {
    /// Writes the action of every live episode into its environment's row of `actions`.
    fn act(&mut self, live: &mut [Live], actions: &mut [f32]) -> anyhow::Result<()>;
}

/// What was played.
#[derive(Debug)]
pub struct Played {
    /// Whole episodes, by their number.
    pub episodes: Vec<Trajectory>,
    /// Episodes that a worker's failure cut short, and that were played anew.
    pub lost: usize,
}

/// Plays episodes `0..episodes` and gives them in that order.
///
/// Environment i plays episodes i, i + N, i + 2·N, …, so the first to finish are not favoured; an
/// episode depends on its number and `seed`, not on N or on threads.
pub fn play(
    env: &mut dyn VecEnv,
    actor: &mut dyn Actor,
    episodes: usize,
    seed: u64,
) -> anyhow::Result<Played> {
    play_groups(env, actor, episodes, seed, 1)
}

/// The same, where each `group` episodes in a row have one start.
pub fn play_groups(
    env: &mut dyn VecEnv,
    actor: &mut dyn Actor,
    episodes: usize,
    seed: u64,
    group: usize,
) -> anyhow::Result<Played> {
    let (count, width) = (env.num_envs(), env.spec().observation_width());
    let action_width = env.spec().action.width();
    let mut batch = StepBatch::new(env.spec(), count);
    let numbers = Episodes { alike: group as u64, ..Episodes::all(seed, count) };
    env.begin(numbers, &mut batch.observations)?;
    let start = |env: usize, number: usize, observation: &[f32]| Live {
        env,
        trajectory: Trajectory {
            observations: observation.to_vec(),
            actions: Vec::new(),
            rewards: Vec::new(),
            end: Phase::Running,
            succeeded: false,
        },
        earned: vec![0.0],
        noise: rng::generator(seed, Purpose::Acting, number),
    };
    let mut live: Vec<Live> = (0..count.min(episodes))
        .map(|env| start(env, env, &batch.observations[env * width..][..width]))
        .collect();
    let mut numbers: Vec<usize> = (0..count).collect();
    let mut actions = idle_actions(&env.spec().action, count);
    let mut finished: Vec<Option<Trajectory>> = (0..episodes).map(|_| None).collect();
    let mut lost = 0;

    while !live.is_empty() {
        actor.act(&mut live, &mut actions)?;
        env.step(&actions, &mut batch)?;
        for incident in env.incidents() {
            tell(&incident.to_string());
        }
        for episode in &mut live {
            let row = episode.env;
            let phase = batch.phases[row];
            let next = match phase {
                Phase::Running => &batch.observations,
                Phase::Terminated | Phase::Truncated => &batch.final_observations,
                Phase::Lost => {
                    lost += 1;
                    *episode = start(row, numbers[row], &batch.observations[row * width..][..width]);
                    continue;
                }
            };
            let reward = batch.rewards[row];
            let trajectory = &mut episode.trajectory;
            trajectory.actions.extend_from_slice(&actions[row * action_width..][..action_width]);
            trajectory.observations.extend_from_slice(&next[row * width..][..width]);
            trajectory.rewards.push(reward);
            trajectory.end = phase;
            trajectory.succeeded |= reports_success(env.spec(), &batch.infos, row);
            episode.earned.push(episode.earned.last().copied().unwrap_or(0.0) + reward);
        }
        let mut going_on = Vec::with_capacity(live.len());
        for episode in live {
            if episode.trajectory.end == Phase::Running {
                going_on.push(episode);
                continue;
            }
            let env = episode.env;
            finished[numbers[env]] = Some(episode.trajectory);
            numbers[env] += count;
            if numbers[env] < episodes {
                going_on.push(start(env, numbers[env], &batch.observations[env * width..][..width]));
            }
        }
        live = going_on;
    }
    let whole = finished.into_iter().map(|episode| episode.expect("every episode was played to its end"));
    Ok(Played { episodes: whole.collect(), lost })
}

/// Whether the step of environment `row` says in its infos that the episode has succeeded.
fn reports_success(spec: &EnvSpec, infos: &[f32], row: usize) -> bool {
    match spec.success {
        Success::Info { column } => infos[row * spec.infos.len() + column] != 0.0,
        Success::Undefined | Success::Terminated | Success::Truncated => false,
    }
}

/// An action for environments whose episodes nobody looks at.
fn idle_actions(space: &ActionSpace, count: usize) -> Vec<f32> {
    match space {
        ActionSpace::Discrete { .. } | ActionSpace::MultiDiscrete { .. } => vec![0.0; count * space.width()],
        ActionSpace::Box { low, high } => {
            let middle = low.iter().zip(high).map(|(low, high)| (low + high) / 2.0);
            middle.collect::<Vec<f32>>().repeat(count)
        }
    }
}

fn row_of<'a>(actions: &'a mut [f32], space: &ActionSpace, env: usize) -> &'a mut [f32] {
    let width = space.width();
    &mut actions[env * width..][..width]
}
