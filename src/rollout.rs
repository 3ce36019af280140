//! Whole episodes in a pool of environments, by anything that acts.

use eva_rl_agents::adapter::AdapterSet;
use eva_rl_agents::model::{Conditioning, DecisionTransformer, Inputs, Policy};
use eva_rl_agents::objective::StochasticHead;
use eva_rl_agents::pass::{NoTap, Pass};
use eva_rl_envs::{ActionSpace, EnvSpec, Episodes, Phase, StepBatch, Success, VecController, VecEnv};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use tch::{Kind, Tensor};

use crate::data::{Step, Trajectory, Windows};
use crate::failure::{OrInput, tell};
use crate::rng::{self, Purpose};

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

/// Uniformly random play.
#[derive(Debug)]
pub struct RandomActor {
    /// The environment's actions.
    pub space: ActionSpace,
}

impl Actor for RandomActor {
    fn act(&mut self, live: &mut [Live], actions: &mut [f32]) -> anyhow::Result<()> {
        for episode in live {
            let row = row_of(actions, &self.space, episode.env);
            draw_uniform(&self.space, &mut episode.noise, row);
        }
        Ok(())
    }
}

/// A scripted controller, which looks at observations alone.
pub struct ScriptedActor {
    /// The controller.
    pub controller: Box<dyn VecController>,
    /// The environment's actions.
    pub space: ActionSpace,
    /// Numbers in an observation.
    pub observation_width: usize,
}

impl Actor for ScriptedActor {
    fn act(&mut self, live: &mut [Live], actions: &mut [f32]) -> anyhow::Result<()> {
        let width = self.observation_width;
        let observations: Vec<f32> =
            live.iter().flat_map(|episode| episode.observation(width).iter().copied()).collect();
        let mut chosen = vec![0.0; live.len() * self.space.width()];
        self.controller.act_rows(live.len(), &observations, &mut chosen)?;
        for (episode, action) in live.iter().zip(chosen.chunks(self.space.width())) {
            row_of(actions, &self.space, episode.env).copy_from_slice(action);
        }
        Ok(())
    }
}

/// Another actor, disturbed: normal noise of `scale` half-ranges, or with probability `scale` a
/// random action where actions are discrete, each of several on its own.
pub struct NoisyActor<'a> {
    /// Who is disturbed.
    pub actor: &'a mut dyn Actor,
    /// The environment's actions.
    pub space: ActionSpace,
    /// How much.
    pub scale: f32,
}

impl Actor for NoisyActor<'_> {
    fn act(&mut self, live: &mut [Live], actions: &mut [f32]) -> anyhow::Result<()> {
        self.actor.act(live, actions)?;
        for episode in live {
            let row = row_of(actions, &self.space, episode.env);
            match &self.space {
                ActionSpace::Discrete { .. } => {
                    if episode.noise.r#gen::<f32>() < self.scale {
                        draw_uniform(&self.space, &mut episode.noise, row);
                    }
                }
                ActionSpace::MultiDiscrete { counts } => {
                    for (action, count) in row.iter_mut().zip(counts) {
                        if episode.noise.r#gen::<f32>() < self.scale {
                            *action = episode.noise.gen_range(0..*count) as f32;
                        }
                    }
                }
                ActionSpace::Box { low, high } => {
                    for ((action, low), high) in row.iter_mut().zip(low).zip(high) {
                        let normal: f32 = episode.noise.sample(StandardNormal);
                        *action = (*action + self.scale * normal * (high - low) / 2.0).clamp(*low, *high);
                    }
                }
            }
        }
        Ok(())
    }
}

/// How a policy's actions are chosen.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'a> {
    /// The likeliest one.
    Likeliest(&'a Policy),
    /// One drawn from Online DT's distribution.
    Drawn(&'a DecisionTransformer, &'a StochasticHead),
}

/// A policy: one batched forward a step over every live episode's window.
pub struct PolicyActor<'a> {
    choice: Choice<'a>,
    conditioning: &'a Conditioning,
    target_return: f32,
    space: &'a ActionSpace,
}

impl<'a> PolicyActor<'a> {
    /// Acts by `choice`, whose policy has its adapters merged, asking for `target_return`.
    pub fn new(
        choice: Choice<'a>,
        conditioning: &'a Conditioning,
        target_return: f32,
        space: &'a ActionSpace,
    ) -> Self {
        Self { choice, conditioning, target_return, space }
    }
}

impl Actor for PolicyActor<'_> {
    fn act(&mut self, live: &mut [Live], actions: &mut [f32]) -> anyhow::Result<()> {
        let Self { choice, conditioning, target_return, .. } = *self;
        let longest = live.iter().map(|episode| episode.earned.len()).max().unwrap_or(0);
        let steps = longest.min(conditioning.context_length);
        let asked = Asked { target: target_return, most: conditioning.max_return_to_go };
        let window = last_windows(live, steps, asked, self.space);
        let inputs = conditioning.inputs(&window.view());
        let chosen = tch::no_grad(|| match choice {
            Choice::Likeliest(policy) => policy.act(&inputs).or_input(),
            Choice::Drawn(policy, head) => Ok(draw(policy, head, &inputs, live)),
        })?;
        let chosen = match self.space {
            ActionSpace::Discrete { .. } | ActionSpace::MultiDiscrete { .. } => chosen,
            ActionSpace::Box { .. } => conditioning.to_environment(&chosen),
        };
        let chosen: Vec<f32> =
            Vec::try_from(chosen.flatten(0, -1).to_kind(Kind::Float).to_device(tch::Device::Cpu))
                .expect("actions are f32");
        for (episode, action) in live.iter().zip(chosen.chunks(self.space.width())) {
            row_of(actions, self.space, episode.env).copy_from_slice(action);
        }
        clip(actions, self.space);
        Ok(())
    }
}

/// One action a live episode, by the episode's own noise: `[B, A]` in [−1, 1], or `[B, 1]` indices.
fn draw(policy: &DecisionTransformer, head: &StochasticHead, inputs: &Inputs, live: &mut [Live]) -> Tensor {
    let no_adapters = AdapterSet::default();
    let pass = &mut Pass { adapters: &no_adapters, tap: &mut NoTap, train: false };
    let encoded = policy.encode_for_acting(inputs); // [B, D]
    let outputs = policy.action_head(pass, &encoded); // [B, A] or [B, A · bins]
    let mut noise = Vec::with_capacity(outputs.numel());
    for episode in live {
        for _ in 0..outputs.numel() / inputs.states.size()[0] as usize {
            noise.push(match head.wants_normal_noise() {
                true => episode.noise.sample(StandardNormal),
                false => episode.noise.r#gen::<f32>(),
            });
        }
    }
    let noise = Tensor::from_slice(&noise).view_as(&outputs).to_device(outputs.device());
    head.draw(&outputs, &encoded, &noise)
}

/// Rounding in the map to the environment's bounds must not leave them.
fn clip(actions: &mut [f32], space: &ActionSpace) {
    if let ActionSpace::Box { low, high } = space {
        for row in actions.chunks_mut(low.len()) {
            for ((action, low), high) in row.iter_mut().zip(low).zip(high) {
                *action = action.clamp(*low, *high);
            }
        }
    }
}

fn row_of<'a>(actions: &'a mut [f32], space: &ActionSpace, env: usize) -> &'a mut [f32] {
    let width = space.width();
    &mut actions[env * width..][..width]
}

/// Draws an action, each as likely as any other.
pub fn draw_uniform(space: &ActionSpace, noise: &mut ChaCha8Rng, row: &mut [f32]) {
    match space {
        ActionSpace::Discrete { n } => row[0] = noise.gen_range(0..*n) as f32,
        ActionSpace::MultiDiscrete { counts } => {
            for (action, count) in row.iter_mut().zip(counts) {
                *action = noise.gen_range(0..*count) as f32;
            }
        }
        ActionSpace::Box { low, high } => {
            for ((action, low), high) in row.iter_mut().zip(low).zip(high) {
                *action = noise.gen_range(*low..=*high);
            }
        }
    }
}

/// The return that a policy is asked for: at the start of an episode, and at most at any later step.
#[derive(Clone, Copy)]
struct Asked {
    target: f32,
    most: f32,
}

/// The last steps of every live episode; the action still to be chosen is an idle one.
fn last_windows(live: &[Live], steps: usize, asked: Asked, space: &ActionSpace) -> Windows {
    let action_width = space.width();
    let state_width = live[0].trajectory.observations.len() / live[0].earned.len();
    let idle = idle_actions(space, 1);
    let mut windows = Windows::new(live.len(), steps, state_width, action_width);
    for (row, episode) in live.iter().enumerate() {
        let seen = episode.earned.len(); // states, the latest included
        for timestep in seen.saturating_sub(steps)..seen {
            let state = &episode.trajectory.observations[timestep * state_width..][..state_width];
            let action =
                episode.trajectory.actions.get(timestep * action_width..(timestep + 1) * action_width);
            let step = Step {
                timestep,
                state,
                action: action.unwrap_or(&idle),
                reward: episode.trajectory.rewards.get(timestep).copied().unwrap_or(0.0),
                return_to_go: (asked.target - episode.earned[timestep]).min(asked.most),
                terminates: false, // it is still played
            };
            windows.set(row, steps - (seen - timestep), &step);
        }
    }
    windows
}
