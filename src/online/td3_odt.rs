//! Online DT with TD3's gradient (Yan, Schwing and Wang 2024, arXiv 2410.24108).
//!
//! Two critics learn Q(s, a) from the transitions of the replay's windows. The policy's loss is the run's
//! objective on hindsight-relabelled windows, less `rl_weight` · Q₁(s, π(s))/mean|Q₁| on the same windows
//! asking for the return of exploration: the first keeps the policy near what was done, the second points
//! to what would earn more. The scale by mean|Q₁| is TD3+BC's (arXiv 2106.06860), so that one weight suits
//! all rewards. Exploration is the likeliest action with noise.

use anyhow::Context;
use eva_rl_agents::adapter::AdapterSet;
use eva_rl_agents::critics::{CriticShape, TwinCritics, follow};
use eva_rl_agents::model::{ActionKind, DecisionTransformer, Inputs};
use eva_rl_agents::pass::{NoTap, Pass};
use tch::{Kind, Tensor};

use crate::checkpoint::replay_state;
use crate::config::Td3OdtConfig;
use crate::data::{Replay, Windows};
use crate::metrics;
use crate::rng::{self, Purpose};
use crate::run::{Explorer, Run};

/// Before the names of the target policy's weights among a checkpoint's tensors.
const TARGET: &str = "target_policy.";

/// Runs to its end.
pub fn td3_odt(run: &mut Run, settings: &Td3OdtConfig, offline: Replay) -> anyhow::Result<()> {
    let mut replay = run.replay(settings.replay_capacity, offline)?;
    let (mut critics, target) = begin(run, settings)?;
    while run.tend(|| {
        let mut state = replay_state(&replay);
        state.extend(critics.state());
        state.extend(target_state(&target));
        state
    })? {
        if run.round_begins(&settings.exploration) {
            for episode in run.explore(&settings.exploration, Explorer::Noisy(settings.noise), 1)? {
                replay.push(episode);
            }
        }
        let windows = run.windows(&replay);
        let inputs = run.conditioning.inputs(&windows.view());
        let most = run.conditioning.max_return_to_go;
        let asking = windows.clone().asking(settings.exploration.target_return, most);
        let asking = run.conditioning.inputs(&asking.view());

        let batch = Transitions::of(&windows, &inputs, run.conditioning.return_scale);
        let next = target_actions(&target, &asking, settings); // [B, T, A]
        let targets = batch.targets(&critics, &next, settings.discount); // [N]
        let (states, actions) = (batch.pick(&inputs.states), batch.pick(&inputs.actions)); // [N, S], [N, A]
        let critic_loss = critics.learn(&states, &actions, &targets, settings.critic_learning_rate);
        anyhow::ensure!(
            critic_loss.is_finite(),
            "update {}: the critics' loss is {critic_loss}; the last checkpoint is whole",
            run.state.updates
        );

        let mut objective = run.learner.objective(&inputs);
        let done = run.state.updates - run.plan.offline.updates;
        let steps_policy = done.is_multiple_of(settings.policy_delay);
        if steps_policy && done >= settings.critic_warm_up {
            let actions = batch.real(&run.learner.mean_actions(&asking)); // [M, A]
            let values = critics.value(&batch.real(&asking.states), &actions); // [M]
            let scale = values.detach().abs().mean(Kind::Float).clamp_min(1e-6); // []
            objective.loss -= values.mean(Kind::Float) / scale * settings.rl_weight;
            let mean = values.mean(Kind::Float).double_value(&[]) * f64::from(run.conditioning.return_scale);
            objective.parts.push((metrics::CRITIC_VALUE, mean));
        }
        objective.parts.push((metrics::CRITIC_LOSS, critic_loss));
        run.step(&inputs, &objective)?;
        if steps_policy {
            critics.follow(settings.polyak);
            let acting = run.learner.acting();
            for (slow, fast) in target.weights().values().zip(acting.weights().values()) {
                follow(slow, fast, settings.polyak);
            }
        }
    }
    Ok(())
}

/// New critics and a target policy, or those of the run's checkpoint.
fn begin(run: &mut Run, settings: &Td3OdtConfig) -> anyhow::Result<(TwinCritics, DecisionTransformer)> {
    let config = run.learner.policy.config();
    let shape = CriticShape {
        state_dim: config.state_dim,
        act_dim: config.act_dim,
        discrete: config.action_kind == ActionKind::Discrete,
        width: settings.critic_width,
    };
    rng::seed_torch(run.plan.seed, Purpose::Critics, 0);
    let mut critics = TwinCritics::new(shape, run.learner.policy.device());
    let target = run.learner.acting();
    if run.saved.keys().any(|name| name.starts_with(TARGET)) {
        critics.load_state(|name| run.saved.get(name).map(Tensor::shallow_clone))?;
        for (name, weight) in target.weights() {
            let saved =
                run.saved.get(&format!("{TARGET}{name}")).filter(|saved| saved.size() == weight.size());
            let saved = saved.with_context(|| format!("the checkpoint lacks `{TARGET}{name}`"))?;
            tch::no_grad(|| weight.shallow_clone().copy_(saved));
        }
    }
    Ok((critics, target))
}

fn target_state(target: &DecisionTransformer) -> Vec<(String, Tensor)> {
    target
        .weights()
        .iter()
        .map(|(name, weight)| (format!("{TARGET}{name}"), weight.shallow_clone()))
        .collect()
}

/// What the target policy would do at every step, disturbed where actions are numbers: `[B, T, A]`.
fn target_actions(target: &DecisionTransformer, inputs: &Inputs, settings: &Td3OdtConfig) -> Tensor {
    tch::no_grad(|| {
        let no_adapters = AdapterSet::default();
        let pass = &mut Pass { adapters: &no_adapters, tap: &mut NoTap, train: false };
        let actions = target.mean_actions(pass, inputs); // [B, T, A]
        if target.config().action_kind == ActionKind::Discrete {
            return actions;
        }
        let furthest = settings.target_noise_clip;
        let noise = (actions.randn_like() * settings.target_noise).clamp(-furthest, furthest);
        (actions + noise).clamp(-1.0, 1.0)
    })
}

/// The transitions of a batch of windows: steps whose successor is in the window too, or that have none.
struct Transitions {
    /// `[N]`, the transitions' slots among all B·T.
    slots: Tensor,
    /// `[N]`, the slots that follow them; their own where nothing follows.
    next: Tensor,
    /// `[N]`, scaled as returns are.
    rewards: Tensor,
    /// `[N]`, 1 where the episode goes on and 0 where the task ended it.
    goes_on: Tensor,
    /// `[M]`, all real slots.
    real: Tensor,
    /// `[N, S]`, the states of `next`.
    next_states: Tensor,
}

impl Transitions {
    fn of(windows: &Windows, inputs: &Inputs, return_scale: f32) -> Self {
        let (mask, terminates) = (windows.view().mask, windows.terminates());
        let steps = windows.view().steps;
        let (mut slots, mut next, mut goes_on, mut real) = (vec![], vec![], vec![], vec![]);
        for slot in (0..mask.len()).filter(|slot| mask[*slot]) {
            real.push(slot as i64);
            let follows = (slot + 1) % steps != 0; // windows are padded on the left alone
            if terminates[slot] || follows {
                slots.push(slot as i64);
                next.push(if terminates[slot] { slot } else { slot + 1 } as i64);
                goes_on.push(if terminates[slot] { 0.0f32 } else { 1.0 });
            }
        }
        let device = inputs.states.device();
        let rewards: Vec<f32> =
            slots.iter().map(|slot| windows.rewards()[*slot as usize] / return_scale).collect();
        let next = Tensor::from_slice(&next).to_device(device);
        Self {
            slots: Tensor::from_slice(&slots).to_device(device),
            next_states: inputs.states.flatten(0, 1).index_select(0, &next),
            next,
            rewards: Tensor::from_slice(&rewards).to_device(device),
            goes_on: Tensor::from_slice(&goes_on).to_device(device),
            real: Tensor::from_slice(&real).to_device(device),
        }
    }

    /// r + γ·min(Q′₁, Q′₂)(s′, a′): `next` `[B, T, A]` → `[N]`.
    fn targets(&self, critics: &TwinCritics, next: &Tensor, discount: f64) -> Tensor {
        let actions = next.flatten(0, 1).index_select(0, &self.next); // [N, A]
        &self.rewards + critics.target_value(&self.next_states, &actions) * &self.goes_on * discount
    }

    /// The transitions' rows: `[B, T, …]` → `[N, …]`.
    fn pick(&self, x: &Tensor) -> Tensor {
        x.flatten(0, 1).index_select(0, &self.slots)
    }

    /// The real steps' rows: `[B, T, …]` → `[M, …]`.
    fn real(&self, x: &Tensor) -> Tensor {
        x.flatten(0, 1).index_select(0, &self.real)
    }
}

#[cfg(test)]
mod tests {
    use eva_rl_envs::Phase;

    use super::*;
    use crate::data::Trajectory;

    #[test]
    fn a_step_counts_where_its_successor_is_known_or_the_task_ended_it() {
        let mut replay = Replay::new(2, 1, 1);
        for end in [Phase::Terminated, Phase::Truncated] {
            replay.push(Trajectory {
                observations: vec![0.0, 1.0, 2.0, 3.0],
                actions: vec![0.0; 3],
                rewards: vec![1.0, 2.0, 4.0],
                end,
                succeeded: false,
            });
        }
        let windows = replay.windows(&[1, 4], 3); // the last two steps of each, padded on the left
        let states = Tensor::from_slice(&[0.0f32, 1.0, 2.0, 0.0, 1.0, 2.0]).view([2, 3, 1]);
        let inputs = Inputs {
            actions: states.zeros_like(),
            rewards: None,
            returns_to_go: states.zeros_like(),
            timesteps: Tensor::zeros([2, 3], (Kind::Int64, tch::Device::Cpu)),
            mask: Tensor::ones([2, 3], (Kind::Bool, tch::Device::Cpu)),
            states,
        };
        let found = Transitions::of(&windows, &inputs, 2.0);
        assert_eq!(found.slots, Tensor::from_slice(&[1i64, 2, 4]));
        assert_eq!(found.next, Tensor::from_slice(&[2i64, 2, 5]));
        assert_eq!(found.rewards, Tensor::from_slice(&[1.0f32, 2.0, 1.0]));
        assert_eq!(found.goes_on, Tensor::from_slice(&[1.0f32, 0.0, 1.0]));
        assert_eq!(found.real.size(), [4]);
    }
}
