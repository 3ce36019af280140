//! A policy that acts: what it reads of every live episode, and how its actions are chosen.

use std::collections::BTreeMap;

use eva_rl_agents::adapter::AdapterSet;
use eva_rl_agents::model::{
    Cache, Conditioning, DecisionTransformer, Inputs, Policy, begins_anew, cached_steps, likeliest,
};
use eva_rl_agents::objective::StochasticHead;
use eva_rl_agents::pass::{NoTap, Pass};
use eva_rl_envs::ActionSpace;
use rand::Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{Actor, Live, idle_actions, row_of};
use crate::data::{Step, Windows};
use crate::failure::OrInput;

/// How a policy's actions are chosen.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'a> {
    /// The likeliest one.
    Likeliest(&'a Policy),
    /// One drawn from Online DT's distribution.
    Drawn(&'a DecisionTransformer, &'a StochasticHead),
}

/// What a decision transformer computes at a step. A TorchScript module always reads windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Inference {
    /// The step's own tokens, with the keys and values of those before it kept; a context that is full starts
    /// anew from its latest half.
    #[default]
    Cached,
    /// Every token of the window of the last steps.
    Window,
}

/// A policy: batched forwards over every live episode.
pub struct PolicyActor<'a> {
    choice: Choice<'a>,
    conditioning: &'a Conditioning,
    target_return: f32,
    space: &'a ActionSpace,
    inference: Inference,
    /// A row an environment, once the first action was chosen.
    cache: Option<Cache>,
}

impl<'a> PolicyActor<'a> {
    /// Acts by `choice`, whose policy has its adapters merged, asking for `target_return`.
    pub fn new(
        choice: Choice<'a>,
        conditioning: &'a Conditioning,
        target_return: f32,
        space: &'a ActionSpace,
        inference: Inference,
    ) -> Self {
        Self { choice, conditioning, target_return, space, inference, cache: None }
    }

    /// One action a live episode of `num_envs` environments: `[B, A]` in [−1, 1], or `[B, 1]` indices.
    fn choose(&mut self, live: &mut [Live], num_envs: usize) -> anyhow::Result<Tensor> {
        let policy = match self.choice {
            Choice::Likeliest(Policy::Transformer(policy)) | Choice::Drawn(policy, _) => policy,
            Choice::Likeliest(module) => return module.act(&self.whole_windows(live)).or_input(),
        };
        let encoded = match self.inference {
            Inference::Cached => self.encode_cached(policy, live, num_envs),
            Inference::Window => policy.encode_for_acting(&self.whole_windows(live)),
        }; // [B, D]
        let no_adapters = AdapterSet::default();
        let pass = &mut Pass { adapters: &no_adapters, tap: &mut NoTap, train: false };
        let outputs = policy.action_head(pass, &encoded); // [B, A] or [B, A · bins]
        Ok(match self.choice {
            Choice::Likeliest(_) => likeliest(policy.config(), &outputs),
            Choice::Drawn(_, head) => draw(head, &outputs, &encoded, live),
        })
    }

    /// What the policy makes of every live episode's latest state, by way of the cache: `[B, D]`.
    fn encode_cached(&mut self, policy: &DecisionTransformer, live: &[Live], num_envs: usize) -> Tensor {
        let longest = self.conditioning.context_length;
        let mut cache = self.cache.take().unwrap_or_else(|| Cache::new(policy, num_envs, longest));
        let (mut growing, mut beginning) = (Vec::new(), BTreeMap::<usize, Vec<usize>>::new());
        for (index, episode) in live.iter().enumerate() {
            let seen = episode.earned.len();
            match begins_anew(seen, longest) {
                true => beginning.entry(cached_steps(seen, longest)).or_default().push(index),
                false => growing.push(index),
            }
        }
        let rows = |members: &[usize]| members.iter().map(|index| live[*index].env).collect::<Vec<_>>();
        let (mut encoded, mut order) = (Vec::new(), Vec::with_capacity(live.len()));
        if !growing.is_empty() {
            let inputs = self.inputs(growing.iter().map(|index| &live[*index]), growing.len(), 2);
            encoded.push(policy.extend(&mut cache, &rows(&growing), &inputs)); // [R, D]
            order.extend(growing);
        }
        for (steps, members) in beginning {
            let inputs = self.inputs(members.iter().map(|index| &live[*index]), members.len(), steps);
            encoded.push(policy.prime(&mut cache, &rows(&members), &inputs)); // [R, D]
            order.extend(members);
        }
        self.cache = Some(cache);
        if encoded.len() == 1 {
            return encoded.remove(0);
        }
        let mut places = vec![0; live.len()];
        for (place, index) in order.into_iter().enumerate() {
            places[index] = place as i64;
        }
        let encoded = Tensor::cat(&encoded, 0);
        encoded.index_select(0, &Tensor::from_slice(&places).to_device(encoded.device()))
    }

    /// The windows of all live episodes, padded to the longest of them.
    fn whole_windows(&self, live: &[Live]) -> Inputs {
        let seen = live.iter().map(|episode| episode.earned.len()).max().unwrap_or(0);
        self.inputs(live.iter(), live.len(), seen.min(self.conditioning.context_length))
    }

    /// The last `steps` steps of `batch` episodes as the policy reads them; the action still to be chosen is
    /// an idle one.
    fn inputs<'l>(&self, live: impl Iterator<Item = &'l Live>, batch: usize, steps: usize) -> Inputs {
        let (action_width, idle) = (self.space.width(), idle_actions(self.space, 1));
        let state_width = self.conditioning.state_width();
        let mut windows = Windows::new(batch, steps, state_width, action_width);
        for (row, Live { trajectory, earned, .. }) in live.enumerate() {
            let seen = earned.len(); // states, the latest included
            for (timestep, earned) in earned.iter().enumerate().skip(seen.saturating_sub(steps)) {
                let action = trajectory.actions.get(timestep * action_width..(timestep + 1) * action_width);
                let to_go = self.target_return - earned;
                let step = Step {
                    timestep,
                    state: &trajectory.observations[timestep * state_width..][..state_width],
                    action: action.unwrap_or(&idle),
                    reward: trajectory.rewards.get(timestep).copied().unwrap_or(0.0),
                    return_to_go: to_go.min(self.conditioning.max_return_to_go),
                    terminates: false,
                };
                windows.set(row, steps - (seen - timestep), &step);
            }
        }
        self.conditioning.inputs(&windows.view())
    }
}

impl Actor for PolicyActor<'_> {
    fn act(&mut self, live: &mut [Live], actions: &mut [f32]) -> anyhow::Result<()> {
        let num_envs = actions.len() / self.space.width();
        let chosen = tch::no_grad(|| self.choose(live, num_envs))?;
        let chosen = match self.space {
            ActionSpace::Discrete { .. } | ActionSpace::MultiDiscrete { .. } => chosen,
            ActionSpace::Box { .. } => self.conditioning.to_environment(&chosen),
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

/// One action a live episode, by the episode's own noise: head outputs `[B, A]` or `[B, A · bins]` and
/// encodings `[B, D]` → `[B, A]` in [−1, 1], or `[B, 1]` indices.
fn draw(head: &StochasticHead, outputs: &Tensor, encoded: &Tensor, live: &mut [Live]) -> Tensor {
    let numbers = outputs.numel() / live.len();
    let mut noise = Vec::with_capacity(outputs.numel());
    for episode in live {
        for _ in 0..numbers {
            noise.push(match head.wants_normal_noise() {
                true => episode.noise.sample(StandardNormal),
                false => episode.noise.r#gen::<f32>(),
            });
        }
    }
    let noise = Tensor::from_slice(&noise).view_as(outputs).to_device(outputs.device());
    head.draw(outputs, encoded, &noise)
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

#[cfg(test)]
mod tests {
    use eva_rl_agents::model::{ActionKind, PolicyConfig};
    use eva_rl_envs::Kwargs;
    use tch::Device;

    use super::*;
    use crate::data::Trajectory;
    use crate::rollout;

    /// What a policy of random weights, which looks back on `context_length` steps, does in some CartPoles.
    fn played(num_envs: usize, context_length: i64, inference: Inference, drawn: bool) -> Vec<Trajectory> {
        tch::set_num_threads(1); // tests run side by side
        tch::manual_seed(5);
        let config = PolicyConfig {
            state_dim: 4,
            act_dim: 2,
            hidden_size: 16,
            n_head: 2,
            initializer_range: 0.4,
            action_tanh: false,
            action_kind: ActionKind::Discrete,
            context_length: Some(context_length),
            state_mean: Some(vec![0.0; 4]),
            state_std: Some(vec![0.2; 4]),
            return_scale: Some(50.0),
            target_return: Some(100.0),
            ..PolicyConfig::default()
        };
        let conditioning = Conditioning::new(&config, Device::Cpu).unwrap();
        let policy = DecisionTransformer::new(config, Device::Cpu);
        let head = StochasticHead::new(&policy, 0.3, 0.1);
        let policy = Policy::Transformer(policy);
        let choice = match &policy {
            Policy::Transformer(policy) if drawn => Choice::Drawn(policy, &head),
            _ => Choice::Likeliest(&policy),
        };
        let mut env = eva_rl_envs::make("CartPole-v1", &Kwargs::new(), num_envs).unwrap();
        let space = env.spec().action.clone();
        let mut actor = PolicyActor::new(choice, &conditioning, 100.0, &space, inference);
        rollout::play(env.as_mut(), &mut actor, 13, 7).unwrap().episodes
    }

    #[test]
    fn a_cache_and_whole_windows_act_alike_while_no_episode_outgrows_its_context() {
        for drawn in [false, true] {
            let [cached, window] =
                [Inference::Cached, Inference::Window].map(|inference| played(4, 300, inference, drawn));
            let lengths: Vec<usize> = cached.iter().map(Trajectory::len).collect();
            assert!(lengths.iter().all(|length| *length < 300), "{lengths:?}");
            assert!(lengths.iter().any(|length| *length != lengths[0]), "{lengths:?}");
            assert_eq!(cached, window);
        }
    }

    #[test]
    fn an_episode_does_not_depend_on_its_neighbours() {
        for inference in [Inference::Cached, Inference::Window] {
            for context_length in [1, 2, 5] {
                let alone = played(1, context_length, inference, true);
                assert!(alone.iter().any(|episode| episode.len() > 2 * context_length as usize));
                assert_eq!(played(4, context_length, inference, true), alone);
            }
        }
    }
}
