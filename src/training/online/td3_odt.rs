//! Online DT with TD3's gradient (Yan, Schwing and Wang 2024, arXiv 2410.24108).
//!
//! Two critics learn Q(s, a) from the transitions of the replay's windows. The policy's loss is the run's
//! loss on hindsight-relabelled windows, less `rl_weight` · Q₁(s, π(s))/mean|Q₁| on the same windows
//! conditioned on the target return of exploration: the first keeps the policy near what was done, the second points
//! to what would earn more. The scale by mean|Q₁| is TD3+BC's (arXiv 2106.06860), so that one weight suits
//! all rewards. Exploration is the greedy action with noise.

use anyhow::Context;
use eva_rl_agents::loss::{CriticShape, TwinCritics, polyak_update};
use eva_rl_agents::model::ForwardContext;
use eva_rl_agents::model::{ActionKind, Inputs, TransformerPolicy};
use eva_rl_agents::ranks::Ranks;
use tch::{Kind, Tensor};

use crate::config::Td3OdtConfig;
use crate::data::{Replay, Windows};
use crate::metrics;
use crate::run_folder::replay_state;
use crate::support::seeds::{self, Purpose};
use crate::training::session::{BatchPart, Explorer, Run};

/// Before the names of the target policy's weights among a checkpoint's tensors.
const TARGET: &str = "target_policy.";

/// Runs to its end.
pub fn td3_odt(run: &mut Run, settings: &Td3OdtConfig, offline: Replay) -> anyhow::Result<()> {
    let mut replay = run.replay(settings.replay_capacity, offline)?;
    let (mut critics, target) = begin(run, settings)?;
    let ranks = run.ranks;
    while run.checkpoint_and_evaluate(|| {
        let mut state = replay_state(&replay, ranks);
        state.extend(critics.state());
        state.extend(target_state(&target));
        state
    })? {
        if run.round_begins(&settings.exploration) {
            let Some(episodes) = run.explore(&settings.exploration, Explorer::Noisy(settings.noise), 1)?
            else {
                continue;
            };
            for episode in episodes {
                replay.push(episode);
            }
        }
        let part = run.windows(&replay);
        let target_return = run.exploration_target(&settings.exploration);
        let asking =
            part.windows.clone().conditioned_on(target_return, |to_go| run.conditioning.capped(to_go));
        let asking = run.conditioning.inputs(&asking.view());

        let worth = target_values(&target, &critics, &asking, &part, settings); // of each of the B·T slots
        let known = targets(&part.windows, &worth, run.conditioning.return_scale, settings);
        let (slots, wanted): (Vec<i64>, Vec<f32>) = known.into_iter().unzip();
        let (slots, device) = (Tensor::from_slice(&slots), run.learner.policy.device());
        let rows = |x: &Tensor, slots: &Tensor| x.flatten(0, 1).index_select(0, &slots.to_device(device));
        let (inputs, mut update_loss) = run.loss(&part);
        let found = critics.differentiate(
            &rows(&inputs.states, &slots),
            &rows(&inputs.actions, &slots),
            &Tensor::from_slice(&wanted).to_device(device),
            run.ranks,
        );
        let critic_loss = found.map_err(|what| run.not_finite(&inputs, &what))?;

        let done = run.state.updates - run.plan.offline.updates + 1; // with this one
        let steps_policy = done.is_multiple_of(settings.policy_delay);
        if steps_policy && done > settings.critic_warmup {
            let real = inputs.mask.flatten(0, -1).nonzero().squeeze_dim(-1); // [M]
            let actions = rows(&run.learner.mean_actions(&mut update_loss.fused, &asking), &real); // [M, A]
            let values = critics.q_value(&rows(&asking.states, &real), &actions); // [M]
            update_loss.loss -= scaled_q_value(&values, part.share, run.ranks) * settings.rl_weight;
            let mean = values.mean(Kind::Float).double_value(&[]) * f64::from(run.conditioning.return_scale);
            update_loss.parts.push((metrics::CRITIC_VALUE, mean));
        }
        update_loss.parts.push((metrics::CRITIC_LOSS, critic_loss));
        run.step(&inputs, &update_loss)?;
        critics.step(settings.critic_learning_rate); // only now: an update is made whole or not at all
        if steps_policy {
            critics.polyak_update(settings.polyak);
            let acting = run.learner.acting();
            for (slow, fast) in target.weights().values().zip(acting.weights().values()) {
                polyak_update(slow, fast, settings.polyak);
            }
        }
    }
    Ok(())
}

/// The mean of a policy's values over the mean of the sizes of all ranks' values, of which these are a `share`:
/// `[M]` → `[]`.
fn scaled_q_value(values: &Tensor, share: f64, ranks: &dyn Ranks) -> Tensor {
    let size = values.detach().abs().mean(Kind::Float).double_value(&[]);
    values.mean(Kind::Float) / ranks.sum(share * size).max(1e-6)
}

/// New critics and a target policy, or those of the run's checkpoint.
fn begin(run: &mut Run, settings: &Td3OdtConfig) -> anyhow::Result<(TwinCritics, TransformerPolicy)> {
    let config = run.learner.policy.config();
    let shape = CriticShape {
        state_dim: config.state_dim,
        act_dim: config.act_dim,
        discrete: config.action_kind == ActionKind::Discrete,
        width: settings.critic_width,
    };
    seeds::seed_torch(run.plan.seed, Purpose::Critics, 0);
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

fn target_state(target: &TransformerPolicy) -> Vec<(String, Tensor)> {
    target
        .weights()
        .iter()
        .map(|(name, weight)| (format!("{TARGET}{name}"), weight.shallow_clone()))
        .collect()
}

/// What the slow critics think of what the target policy would do at every slot, disturbed where actions
/// are numbers: of each of the B·T slots of `inputs`, which are these rows of a batch.
fn target_values(
    target: &TransformerPolicy,
    critics: &TwinCritics,
    inputs: &Inputs,
    part: &BatchPart,
    settings: &Td3OdtConfig,
) -> Vec<f32> {
    let values = tch::no_grad(|| {
        let context = &mut ForwardContext::bare();
        let actions = target.mean_actions(context, inputs); // [B, T, A]
        let actions = match target.config().action_kind {
            ActionKind::Discrete => actions,
            ActionKind::Continuous | ActionKind::Binned => {
                let furthest = settings.target_noise_clip;
                let noise = noise_of(part, &actions) * settings.target_noise;
                let noise = noise.clamp(-furthest, furthest);
                (actions + noise).clamp(-1.0, 1.0)
            }
        };
        critics.target_q_value(&inputs.states.flatten(0, 1), &actions.flatten(0, 1)) // [B · T]
    });
    Vec::try_from(values.to_device(tch::Device::Cpu)).expect("values are f32")
}

/// Normal noise for the actions of a part of a batch, a part of the whole batch's: `[B, T, A]` → `[B, T, A]`.
fn noise_of(part: &BatchPart, actions: &Tensor) -> Tensor {
    let (_, steps, width) = actions.size3().expect("[B, T, A]");
    let whole = Tensor::randn([part.batch as i64, steps, width], (actions.kind(), actions.device()));
    whole.narrow(0, part.rows.start as i64, part.rows.len() as i64)
}

/// What the critics are to learn, and in which slots: those whose successor is in the window, or that have
/// none because the task ended there.
///
/// With V the worth of the next slot, yₜ = r + γ·((1 − λ)·Vₜ₊₁ + λ·yₜ₊₁), and λ = 0 is TD3's own target.
fn targets(windows: &Windows, worth: &[f32], return_scale: f32, settings: &Td3OdtConfig) -> Vec<(i64, f32)> {
    let (mask, terminates, steps) = (windows.view().mask, windows.terminates(), windows.view().steps);
    let (discount, lambda) = (settings.discount as f32, settings.lambda as f32);
    let mut found = Vec::with_capacity(mask.len());
    for window in (0..mask.len()).step_by(steps) {
        let last = window + steps - 1; // windows are padded on the left alone
        let mut ahead = worth[last]; // y of the slot after
        for slot in (window..=last).rev().filter(|slot| mask[*slot]) {
            let reward = windows.rewards()[slot] / return_scale;
            if terminates[slot] {
                ahead = reward;
            } else if slot < last {
                ahead = reward + discount * ((1.0 - lambda) * worth[slot + 1] + lambda * ahead);
            } else {
                continue;
            }
            found.push((slot as i64, ahead));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use eva_rl_agents::ranks::OneRank;
    use eva_rl_envs::Phase;

    use super::*;
    use crate::config::ExplorationConfig;
    use crate::data::{Images, Trajectory};

    #[track_caller]
    fn check(end: Phase, lambda: f64, wanted: &[(i64, f32)]) {
        let mut replay = Replay::new(1, 1, 1);
        replay.push(Trajectory {
            observations: vec![0.0; 4].into(),
            images: Images::default(),
            actions: vec![0.0; 3].into(),
            rewards: vec![1.0, 2.0, 4.0],
            end,
            infos: Vec::new(),
            succeeded: None,
        });
        let settings = Td3OdtConfig {
            replay_capacity: 1,
            noise: 0.0,
            rl_weight: 1.0,
            critic_warmup: 0,
            discount: 0.5,
            lambda,
            critic_width: 1,
            critic_learning_rate: 1.0,
            polyak: 1.0,
            target_noise: 0.0,
            target_noise_clip: 0.0,
            policy_delay: 1,
            exploration: ExplorationConfig { rounds: 1, updates_per_round: 1, target_return: None },
        };
        // All three steps, padded by one.
        let mut found = targets(&replay.windows(&[0], 4), &[9.0, 10.0, 20.0, 40.0], 1.0, &settings);
        found.reverse();
        assert_eq!(found, wanted);
    }

    #[test]
    fn the_scale_of_the_values_changes_nothing_and_more_worth_is_more() {
        let gradient = |scale: f64| -> Vec<f32> {
            let values = Tensor::from_slice(&[1.0f32, -3.0]).set_requires_grad(true);
            scaled_q_value(&(&values * scale), 1.0, &OneRank).backward();
            Vec::try_from(values.grad()).unwrap()
        };
        assert_eq!(gradient(1.0), [0.25, 0.25]);
        assert_eq!(gradient(1024.0), [0.25, 0.25]);
    }

    #[test]
    fn td3_s_targets_look_one_step_ahead() {
        check(Phase::Truncated, 0.0, &[(1, 1.0 + 0.5 * 20.0), (2, 2.0 + 0.5 * 40.0)]);
    }

    #[test]
    fn where_the_task_ended_nothing_follows() {
        check(Phase::Terminated, 0.0, &[(1, 1.0 + 0.5 * 20.0), (2, 2.0 + 0.5 * 40.0), (3, 4.0)]);
    }

    #[test]
    fn with_a_trace_targets_look_to_the_window_s_end() {
        check(Phase::Terminated, 1.0, &[(1, 1.0 + 0.5 * 4.0), (2, 2.0 + 0.5 * 4.0), (3, 4.0)]);
        check(Phase::Truncated, 1.0, &[(1, 1.0 + 0.5 * 22.0), (2, 2.0 + 0.5 * 40.0)]);
        check(Phase::Truncated, 0.5, &[(1, 1.0 + 0.5 * 21.0), (2, 2.0 + 0.5 * 40.0)]);
    }
}
