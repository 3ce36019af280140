//! Group-relative policy gradients for decision transformers (Luo and Zhu 2026, arXiv 2601.00167).
//!
//! Every round plays groups of episodes from one start each, with a high target return, and relabels
//! nothing: hindsight would change the inputs of the very likelihoods that are compared. A step's
//! advantage is its discounted return-to-go less the mean of its group's at that step, over the root
//! mean square of the round's. Sub-trajectories are the contexts that the actor had, so the likelihoods
//! are those by which it acted; the clipped ratio is one a sub-trajectory (GSPO).

use std::collections::HashMap;

use anyhow::Context as _;
use eva_rl_agents::loss::sequence_policy_gradient;
use eva_rl_agents::model::{FusedLora, Inputs};
use eva_rl_agents::ranks::OneRank;
use rand::seq::index;
use tch::{Kind, Tensor};

use crate::config::GrpoConfig;
use crate::data::{Replay, Trajectory, Windows};
use crate::metrics::{self, Metric};
use crate::run_folder::replay_state;
use crate::support::seeds::{self, Purpose};
use crate::training::session::{Explorer, Run};
use crate::training::session::{Learner, UpdateLoss};

/// Log-probabilities by which a round's actions were chosen, among a checkpoint's tensors.
const BEFORE: &str = "grpo.before";

/// Windows whose log-probabilities are computed at once.
const CHUNK: usize = 256;

/// Runs to its end.
pub fn grpo(run: &mut Run, settings: &GrpoConfig) -> anyhow::Result<()> {
    let mut round = match run.state.rounds {
        0 => None,
        _ => Some(Round::restore(run, settings)?),
    };
    while run.checkpoint_and_evaluate(|| round.as_ref().map_or_else(Vec::new, Round::state))? {
        if run.round_begins(&settings.exploration) {
            let explored = run.explore(&settings.exploration, Explorer::Sampled, settings.group_size)?;
            let Some(episodes) = explored else { continue };
            round = Some(Round::new(run, settings, episodes));
        }
        let round = round.as_ref().expect("the first update of a phase begins a round");
        let mut draw = seeds::generator(run.plan.seed, Purpose::UpdateWindows, run.state.updates);
        seeds::seed_torch(run.plan.seed, Purpose::UpdateNoise, run.state.updates);
        let batch = run.plan.optimiser.batch_size.min(round.contexts.len());
        let chosen = index::sample(&mut draw, round.contexts.len(), batch).into_vec();
        let windows = round.windows(run, settings, &chosen);
        let (advantages, counted) = round.advantages(&windows, &chosen); // [B, T] each
        let index: Vec<i64> = chosen.iter().map(|context| *context as i64).collect();
        let before =
            round.before.index_select(0, &Tensor::from_slice(&index)).to_device(run.learner.policy.device());
        let rows = run.ranks.part(windows.count()); // every episode has a context, and every rank an episode
        let own = |x: &Tensor| x.narrow(0, rows.start as i64, rows.len() as i64); // [B, T] → [rows, T]
        let sum = |x: &Tensor| x.sum(Kind::Float).double_value(&[]);
        let share = sum(&own(&counted)) / run.ranks.sum(sum(&own(&counted)));
        let inputs = run.inputs(&windows.part(rows.clone()));
        let mut fused = FusedLora::default();
        let (now, mut parts) = log_probs(&run.learner, &mut fused, &inputs); // [rows, T]
        let found =
            sequence_policy_gradient(&now, &own(&before), &own(&advantages), &own(&counted), settings.clip);
        parts.push((metrics::CLIP_FRACTION, found.clipped));
        run.step(&inputs, &UpdateLoss { loss: found.loss, temperature: None, parts, fused, share })?;
    }
    Ok(())
}

fn log_probs(learner: &Learner, fused: &mut FusedLora, inputs: &Inputs) -> (Tensor, Vec<(Metric, f64)>) {
    learner.log_probs(fused, inputs).expect("a plan with [online.grpo] has Online DT's distribution")
}

/// A sub-trajectory: a window, of which the steps from `counts_from` on count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Context {
    /// Its first step among all steps of the round.
    start: usize,
    /// A timestep of its episode.
    counts_from: usize,
}

/// The episodes of one round, and what their steps are worth.
struct Round {
    replay: Replay,
    contexts: Vec<Context>,
    /// Of every step of the round.
    step_advantages: Vec<f32>,
    /// `[contexts, T]`, on the CPU.
    before: Tensor,
}

impl Round {
    /// Of episodes that the learner has just played.
    fn new(run: &mut Run, settings: &GrpoConfig, episodes: Vec<Trajectory>) -> Self {
        let mut round = Self::of(run, settings, episodes);
        let (contexts, steps) = (round.contexts.len(), run.conditioning.context_length);
        let mut before = vec![0.0; contexts * steps]; // each rank fills its part
        let own: Vec<usize> = run.ranks.part(contexts).collect();
        for chosen in own.chunks(CHUNK) {
            let windows = round.windows(run, settings, chosen);
            let inputs = run.inputs(&windows);
            let found = tch::no_grad(|| log_probs(&run.learner, &mut FusedLora::default(), &inputs).0);
            let found = Vec::<f32>::try_from(found.to_device(tch::Device::Cpu).flatten(0, -1));
            let found = found.expect("log-probabilities are f32");
            before[chosen[0] * steps..][..found.len()].copy_from_slice(&found);
        }
        run.ranks.sum_f32(&mut before);
        round.before = Tensor::from_slice(&before).view([contexts as i64, steps as i64]);
        round
    }

    /// All but the log-probabilities.
    fn of(run: &Run, settings: &GrpoConfig, episodes: Vec<Trajectory>) -> Self {
        let rewards: Vec<&[f32]> = episodes.iter().map(|episode| episode.rewards.as_slice()).collect();
        let step_advantages = advantages(&rewards, settings.group_size, settings.discount);
        let lengths: Vec<usize> = rewards.iter().map(|rewards| rewards.len()).collect();
        let contexts = contexts(&lengths, run.conditioning.context_length);
        let spec = run.env.spec();
        let mut replay = Replay::new(episodes.len(), spec.observation_width(), spec.action.width())
            .read_by(&run.conditioning);
        episodes.into_iter().for_each(|episode| replay.push(episode));
        let before = Tensor::zeros([0, 0], (Kind::Float, tch::Device::Cpu));
        Self { replay, contexts, step_advantages, before }
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = replay_state(&self.replay, &OneRank); // it is the same on all
        state.push((BEFORE.to_owned(), self.before.shallow_clone()));
        state
    }

    fn restore(run: &mut Run, settings: &GrpoConfig) -> anyhow::Result<Self> {
        let nothing = Replay::new(0, 0, 0);
        let replay = run.replay(run.plan.env.num_envs, nothing)?;
        let saved: &HashMap<String, Tensor> = &run.saved;
        let before = saved.get(BEFORE).context("the checkpoint lacks `grpo.before`")?.shallow_clone();
        let round = Self { before, ..Self::of(run, settings, replay.into_trajectories()) };
        let fits = round.before.size()[0] == round.contexts.len() as i64;
        anyhow::ensure!(fits, "the checkpoint's `grpo.before` does not fit its replay");
        Ok(round)
    }

    /// The windows of some contexts, conditioned as the actor was.
    fn windows(&self, run: &Run, settings: &GrpoConfig, chosen: &[usize]) -> Windows {
        let starts: Vec<usize> = chosen.iter().map(|context| self.contexts[*context].start).collect();
        let windows = self.replay.windows(&starts, run.conditioning.context_length);
        let target = run.exploration_target(&settings.exploration);
        windows.conditioned_on(target, |to_go| run.conditioning.capped(to_go))
    }

    /// The advantage of every slot of some contexts' windows, and whether it counts: `[B, T]` each.
    fn advantages(&self, windows: &Windows, chosen: &[usize]) -> (Tensor, Tensor) {
        let (mask, timesteps) = (windows.view().mask, windows.timesteps());
        let steps = mask.len() / chosen.len();
        let (mut advantages, mut counted) = (vec![0.0; mask.len()], vec![0.0; mask.len()]);
        for (row, context) in chosen.iter().enumerate() {
            let Context { start, counts_from } = self.contexts[*context];
            let slots = (row * steps..(row + 1) * steps).filter(|slot| mask[*slot]);
            for (offset, slot) in slots.enumerate() {
                advantages[slot] = self.step_advantages[start + offset];
                counted[slot] = f32::from(u8::from(timesteps[slot] >= counts_from as i64));
            }
        }
        let shape = [chosen.len() as i64, steps as i64];
        (Tensor::from_slice(&advantages).view(shape), Tensor::from_slice(&counted).view(shape))
    }
}

/// The contexts in which the actor chose the steps of episodes of these lengths, when it looks back on at
/// most `longest` steps: each step counts in exactly one.
fn contexts(lengths: &[usize], longest: usize) -> Vec<Context> {
    let kept = (longest / 2).max(1);
    let mut found = Vec::new();
    let mut before = 0; // steps of the episodes before
    for length in lengths {
        let (mut start, mut counts_from) = (0, 0);
        while counts_from < *length {
            found.push(Context { start: before + start, counts_from });
            counts_from = start + longest;
            start = counts_from + 1 - kept;
        }
        before += length;
    }
    found
}

/// The advantage of every step of some episodes, each `group` of which are compared.
fn advantages(rewards: &[&[f32]], group: usize, discount: f64) -> Vec<f32> {
    let mut all = Vec::new();
    for members in rewards.chunks(group) {
        let to_go: Vec<Vec<f64>> = members.iter().map(|rewards| discounted(rewards, discount)).collect();
        let longest = to_go.iter().map(Vec::len).max().unwrap_or(0);
        // Past its end an episode earns nothing.
        let mean: Vec<f64> = (0..longest)
            .map(|step| to_go.iter().filter_map(|to_go| to_go.get(step)).sum::<f64>() / members.len() as f64)
            .collect();
        all.extend(to_go.iter().flat_map(|to_go| to_go.iter().zip(&mean).map(|(to_go, mean)| to_go - mean)));
    }
    let scale = (all.iter().map(|x| x * x).sum::<f64>() / all.len().max(1) as f64).sqrt();
    all.iter().map(|x| if scale > 1e-8 { (x / scale) as f32 } else { 0.0 }).collect()
}

fn discounted(rewards: &[f32], discount: f64) -> Vec<f64> {
    let mut to_go = vec![0.0; rewards.len()];
    let mut sum = 0.0;
    for (step, reward) in rewards.iter().enumerate().rev() {
        sum = f64::from(*reward) + discount * sum;
        to_go[step] = sum;
    }
    to_go
}

#[cfg(test)]
mod tests {
    use eva_rl_agents::model::cached_context_len;

    use super::*;

    #[test]
    fn every_step_counts_in_one_context_and_none_is_longer_than_the_actor_s() {
        for (longest, lengths) in [(4, vec![9, 1, 4, 5]), (1, vec![3]), (5, vec![20, 6]), (2, vec![5])] {
            let found = contexts(&lengths, longest);
            let mut before = 0;
            for length in lengths {
                let mine: Vec<Context> = found
                    .iter()
                    .filter(|context| (before..before + length).contains(&context.start))
                    .copied()
                    .collect();
                let mut counted = Vec::new();
                for Context { start, counts_from } in mine {
                    let start = start - before;
                    counted.extend(counts_from..(start + longest).min(length));
                    assert!(counts_from - start < longest);
                    assert!(counts_from == 0 || counts_from - start + 1 == (longest / 2).max(1));
                }
                assert_eq!(counted, (0..length).collect::<Vec<_>>());
                before += length;
            }
        }
    }

    #[test]
    fn contexts_are_those_of_the_cache() {
        for (longest, length) in [(1, 4), (2, 5), (5, 23), (8, 30)] {
            for Context { start, counts_from } in contexts(&[length], longest) {
                for timestep in counts_from..(start + longest).min(length) {
                    assert_eq!(timestep + 1 - start, cached_context_len(timestep + 1, longest));
                }
            }
        }
    }

    #[test]
    fn advantages_compare_the_members_of_a_group_step_by_step() {
        let found = advantages(&[&[1.0, 1.0], &[1.0], &[5.0], &[5.0]], 2, 1.0);
        // Group 1: to go 2, 1 and 1; means 1.5, 0.5. Group 2 has nothing to tell apart.
        let wanted = [0.5, 0.5, -0.5, 0.0, 0.0];
        let scale = (0.75_f32 / 5.0).sqrt();
        for (found, wanted) in found.iter().zip(wanted) {
            assert!((found - wanted / scale).abs() < 1e-6, "{found}");
        }
        assert_eq!(advantages(&[&[1.0], &[1.0]], 2, 1.0), [0.0, 0.0]);
    }

    #[test]
    fn returns_are_discounted() {
        assert_eq!(discounted(&[1.0, 2.0, 4.0], 0.5), [3.0, 4.0, 4.0]);
    }
}
