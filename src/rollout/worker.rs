//! One thread's share of a rollout: its environments, step by step, until all of their episodes have ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use eva_rl_envs::{EnvSpec, Episodes, Phase, StepBatch, Success, VecEnv};

use super::actor::{ActiveEpisode, Actor, idle_actions};
use crate::data::{Frames, Trajectory};
use crate::support::errors::tell;
use crate::support::seeds::{self, Purpose};
use crate::support::signals;

/// Where a thread's time went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Steps of its environments, all of them at once.
    pub steps: usize,
    /// Choosing actions.
    pub policy_secs: f64,
    /// Waiting for its environments to step.
    pub env_secs: f64,
}

/// What becomes of an episode that has ended, by its number. Both halves' threads call it.
pub type Keep<'a> = dyn Fn(usize, Trajectory) -> anyhow::Result<()> + Sync + 'a;

/// What one thread has played.
#[derive(Debug, Default)]
pub(super) struct WorkerResult {
    /// Episodes that a worker's failure cut short, and that were played again.
    pub lost: usize,
    /// Where the time went.
    pub timings: Timings,
}

/// Plays those of `numbers` that lie below `episodes`, and hands each to `keep` when it has ended, or leaves off once
/// `stop` is set; fails where the run is to stop.
pub(super) fn run_worker(
    env: &mut dyn VecEnv,
    actor: &mut dyn Actor,
    numbers: Episodes,
    episodes: usize,
    keep: &Keep,
    stop: &AtomicBool,
) -> anyhow::Result<WorkerResult> {
    let (count, width) = (env.num_envs(), env.spec().observation_width());
    let action_width = env.spec().action.width();
    let mut batch = StepBatch::new(env.spec(), count);
    env.begin(numbers, &mut batch.observations)?;
    let image = env.spec().image;
    // Episode `number` of the environment in row `row`, as `env` and `batch` show its start.
    let start = |env: &dyn VecEnv, batch: &StepBatch, row: usize, number: usize| {
        let mut frames = image.map_or_else(Frames::default, Frames::new);
        frames.push(env.pixels(row));
        ActiveEpisode {
            env: row,
            number,
            trajectory: Trajectory {
                observations: batch.observations[row * width..][..width].to_vec().into(),
                images: frames.into(),
                actions: Vec::new().into(),
                rewards: Vec::new(),
                end: Phase::Running,
                infos: Vec::new(),
                succeeded: None,
            },
            earned: vec![0.0],
            expert_action: env.expert_action(row).to_vec(),
            noise: seeds::generator(numbers.seed, Purpose::Acting, number),
        }
    };
    let mut live: Vec<ActiveEpisode> = (0..count)
        .map(|row| (row, numbers.first_of(row) as usize))
        .filter(|(_, number)| *number < episodes)
        .map(|(row, number)| start(env, &batch, row, number))
        .collect();
    (0..count).filter(|row| numbers.first_of(*row) >= episodes as u64).for_each(|row| env.retire(row));
    let mut actions = idle_actions(&env.spec().action, count);
    let mut result = WorkerResult::default();

    while !live.is_empty() && !stop.load(Ordering::Relaxed) {
        signals::check()?;
        let begun = Instant::now();
        actor.act(&mut live, &mut actions)?;
        let chosen = Instant::now();
        env.step(&actions, &mut batch)?;
        result.timings.policy_secs += (chosen - begun).as_secs_f64();
        result.timings.env_secs += chosen.elapsed().as_secs_f64();
        result.timings.steps += 1;
        for incident in env.incidents() {
            tell(&incident.to_string());
        }
        for episode in &mut live {
            let row = episode.env;
            let phase = batch.phases[row];
            let (next, pixels) = match phase {
                Phase::Running => (&batch.observations, env.pixels(row)),
                Phase::Terminated | Phase::Truncated => (&batch.final_observations, env.final_pixels(row)),
                Phase::Lost => {
                    result.lost += 1;
                    *episode = start(env, &batch, row, episode.number);
                    continue;
                }
            };
            let reward = batch.rewards[row];
            let trajectory = &mut episode.trajectory;
            trajectory.actions.to_mut().extend_from_slice(&actions[row * action_width..][..action_width]);
            trajectory.observations.to_mut().extend_from_slice(&next[row * width..][..width]);
            trajectory.images.to_mut().push(pixels);
            trajectory.rewards.push(reward);
            let infos = env.spec().infos.len();
            trajectory.infos.extend_from_slice(&batch.infos[row * infos..][..infos]);
            trajectory.end = phase;
            if let Some(succeeds) = reported_success(env.spec(), &batch.infos, row) {
                trajectory.succeeded = Some(trajectory.succeeded.unwrap_or(false) || succeeds);
            }
            episode.expert_action = env.expert_action(row).to_vec();
            episode.earned.push(episode.earned.last().copied().unwrap_or(0.0) + reward);
        }
        let mut going_on = Vec::with_capacity(live.len());
        for episode in live {
            if episode.trajectory.end == Phase::Running {
                going_on.push(episode);
                continue;
            }
            let (row, next) = (episode.env, episode.number + numbers.stride as usize);
            keep(episode.number, episode.trajectory)?;
            if next < episodes {
                going_on.push(start(env, &batch, row, next));
            } else {
                env.retire(row);
            }
        }
        live = going_on;
    }
    Ok(result)
}

/// Whether the step of environment `row` says in its infos that the episode has succeeded; none where it says
/// nothing.
fn reported_success(spec: &EnvSpec, infos: &[f32], row: usize) -> Option<bool> {
    match spec.success {
        Success::Info { column } => {
            let info = infos[row * spec.infos.len() + column];
            (info >= 0.0).then_some(info > 0.0)
        }
        Success::Undefined | Success::Terminated | Success::Truncated => None,
    }
}

#[cfg(test)]
mod tests {
    use eva_rl_envs::{BridgeSettings, EnvError, Kwargs, make_with};

    use super::*;
    use crate::rollout::RandomActor;

    /// An environment that remembers which rows were retired, and after how many steps of the batch.
    struct Observed {
        env: Box<dyn VecEnv>,
        steps: usize,
        retired: Vec<(usize, usize)>,
    }

    impl VecEnv for Observed {
        fn spec(&self) -> &EnvSpec {
            self.env.spec()
        }

        fn num_envs(&self) -> usize {
            self.env.num_envs()
        }

        fn begin(&mut self, episodes: Episodes, observations: &mut [f32]) -> Result<(), EnvError> {
            self.env.begin(episodes, observations)
        }

        fn step(&mut self, actions: &[f32], batch: &mut StepBatch) -> Result<(), EnvError> {
            self.steps += 1;
            self.env.step(actions, batch)
        }

        fn retire(&mut self, env: usize) {
            self.retired.push((self.steps, env));
            self.env.retire(env);
        }
    }

    #[test]
    fn an_environment_without_a_next_episode_is_retired() {
        let env = make_with("Pendulum-v1", &Kwargs::new(), 4, &BridgeSettings::default()).unwrap();
        let mut actor = RandomActor { space: env.spec().action.clone() };
        let mut env = Observed { env, steps: 0, retired: Vec::new() };
        let keep = |_: usize, episode: Trajectory| {
            assert_eq!(episode.len(), 200);
            Ok(())
        };
        let play = |env: &mut Observed, actor: &mut RandomActor, episodes: usize| {
            let numbers = Episodes::all(1, 4);
            run_worker(env, actor, numbers, episodes, &keep, &AtomicBool::new(false)).unwrap();
            std::mem::take(&mut env.retired)
        };
        // Environments 0 and 1 have two episodes of 200 steps, the others one.
        assert_eq!(play(&mut env, &mut actor, 6), [(200, 2), (200, 3), (400, 0), (400, 1)]);
        assert_eq!(play(&mut env, &mut actor, 3), [(400, 3), (600, 0), (600, 1), (600, 2)]);
    }
}
