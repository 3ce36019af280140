//! Online DT's loss (arXiv 2202.05607): the likelihood of the recorded actions, and an entropy bonus.

use tch::{Kind, Tensor};

use super::clipped_normal;
use super::rows::real_rows;
use crate::adapter::AdapterSet;
use crate::model::heads::bins::{self, Bins};
use crate::model::layers::Linear;
use crate::model::{ActionKind, ForwardContext, Inputs, PolicyConfig, TransformerPolicy};

/// Log-deviations of the action distribution lie between these. The lower is Online DT's; at the upper, half
/// the range, a third of the draws around the middle are at a bound, and wider ones would only go from one to
/// the other.
const LOG_STD_RANGE: (f64, f64) = (-5.0, 0.0);

/// Initial standard deviations that a head may have, in halves of the action range.
pub const START_STD_RANGE: (f64, f64) = (0.01, 0.95);

/// The part of Online DT (arXiv 2202.05607) that a deterministic policy lacks: a spread for its
/// actions, and the temperature that holds their entropy at a target.
///
/// Continuous actions are normals around the policy's own, clipped to [−1, 1] ([`crate::loss::clipped_normal`]), so
/// the most likely action is the one that the policy took before; discrete and binned ones are
/// categorical over its logits, each dimension on its own.
#[derive(Debug)]
pub struct StochasticHead {
    distribution: Distribution,
    /// `[D]` → `[A]`, the unsquashed log-deviation; unused where actions are discrete.
    log_std_head: Linear,
    /// `[]`, the entropy's weight is its exponential.
    log_temperature: Tensor,
    target_entropy: f64,
}

/// How a normal's mean comes from the policy's head.
#[derive(Clone, Copy, Debug)]
enum Mean {
    Tanh,
    Head,
}

impl Mean {
    /// `[N, A]` → `[N, A]`.
    fn of(self, head: &Tensor) -> Tensor {
        match self {
            Self::Tanh => head.tanh(),
            Self::Head => head.shallow_clone(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Distribution {
    Normal(Mean),
    Categorical,
    /// One categorical over these for each of so many dimensions.
    Bins(Bins, i64),
}

impl Distribution {
    fn of(config: &PolicyConfig) -> Self {
        match config.action_kind {
            ActionKind::Continuous if config.action_tanh => Self::Normal(Mean::Tanh),
            ActionKind::Continuous => Self::Normal(Mean::Head),
            ActionKind::Discrete => Self::Categorical,
            ActionKind::Binned => Self::Bins(Bins::of(config), config.act_dim),
        }
    }

    fn is_normal(self) -> bool {
        matches!(self, Self::Normal(_))
    }
}

/// The two losses of one update, and what they are made of.
#[derive(Debug)]
pub struct OnlineLoss {
    /// Minimised by the policy: `−(log-likelihood + temperature · entropy)`, `[]`.
    pub policy: Tensor,
    /// Minimised by the temperature: `temperature · (entropy − target)`, `[]`.
    pub temperature: Tensor,
    /// Mean log-likelihood of the recorded actions.
    pub log_likelihood: f64,
    /// Mean entropy of the action distribution.
    pub entropy: f64,
    /// Of normal actions alone.
    pub spread: Option<Spread>,
}

/// How far normal actions spread, and how many were recorded at their bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Mean standard deviation, in halves of the action range.
    pub std: f64,
    /// Share of the recorded action numbers that are at their bounds.
    pub saturated: f64,
}

/// What the distribution says of N real steps.
struct Score {
    /// Log-probability of the recorded action, `[N]`.
    log_probs: Tensor,
    /// `[N]`.
    entropy: Tensor,
    spread: Option<Spread>,
}

impl StochasticHead {
    /// Every state's standard deviation is initialised to `std` (in halves of the action range), the entropy's weight to
    /// `temperature`; its target is −A, or a tenth of the greatest entropy where actions are categorical.
    pub fn new(policy: &TransformerPolicy, std: f64, temperature: f64) -> Self {
        let config = policy.config();
        let options = (Kind::Float, policy.device());
        let distribution = Distribution::of(config);
        let target_entropy = match distribution {
            Distribution::Normal(_) => -(config.act_dim as f64),
            Distribution::Categorical => 0.1 * (config.act_dim as f64).ln(),
            Distribution::Bins(_, act_dim) => {
                0.1 * act_dim as f64 * ((config.action_outputs() / act_dim) as f64).ln()
            }
        };
        let head = Self {
            distribution,
            log_std_head: Linear {
                weight: Tensor::zeros([config.act_dim, config.hidden_size], options).set_requires_grad(true),
                bias: Tensor::zeros([config.act_dim], options).set_requires_grad(true),
                fan_in_fan_out: false,
            },
            log_temperature: Tensor::full([0i64; 0], temperature.ln(), options).set_requires_grad(true),
            target_entropy,
        };
        head.initialise_std(&Tensor::full([config.act_dim], std, options));
        head
    }

    /// The distribution of a policy whose actions have logits, discrete or binned, which needs no spread beside them; none
    /// of one whose actions are continuous.
    pub fn of_logits(policy: &TransformerPolicy) -> Option<Self> {
        let head = Self::new(policy, START_STD_RANGE.1, 1.0);
        (!head.distribution.is_normal()).then_some(head)
    }

    /// Every state's deviations become these, `[A]`.
    pub fn initialise_std(&self, std: &Tensor) {
        let (low, high) = LOG_STD_RANGE;
        let unsquashed = ((std.log() - low) / (high - low) * 2.0 - 1.0).atanh();
        tch::no_grad(|| self.log_std_head.bias.shallow_clone().copy_(&unsquashed));
    }

    /// For each of A numbers the deviation under which the recorded actions of some batches are most likely
    /// around the policy's own, `[A]`; none where actions are not normal.
    pub fn residual_std(
        &self,
        policy: &TransformerPolicy,
        adapters: &AdapterSet,
        batches: &[Inputs],
    ) -> Option<Tensor> {
        let Distribution::Normal(mean) = self.distribution else { return None };
        let (mut actions, mut means) = (Vec::new(), Vec::new()); // [N, A] each
        for inputs in batches {
            let context = &mut ForwardContext::with_adapters(adapters);
            let encoded = real_rows(&policy.encode_for_actions(context, inputs), &inputs.mask); // [N, D]
            means.push(mean.of(&policy.action_head(context, &encoded)));
            actions.push(real_rows(&inputs.actions, &inputs.mask));
        }
        let (low, high) = START_STD_RANGE;
        let (actions, means) = (Tensor::cat(&actions, 0), Tensor::cat(&means, 0));
        Some(clipped_normal::most_likely_log_std(&actions, &means, low.ln(), high.ln()).exp())
    }

    /// The same for another thread, to sample from; the tensors are shared.
    pub fn clone_for_thread(&self) -> Self {
        Self {
            distribution: self.distribution,
            log_std_head: Linear {
                weight: self.log_std_head.weight.shallow_clone(),
                bias: self.log_std_head.bias.shallow_clone(),
                fan_in_fan_out: self.log_std_head.fan_in_fan_out,
            },
            log_temperature: self.log_temperature.shallow_clone(),
            target_entropy: self.target_entropy,
        }
    }

    /// What the policy's optimiser changes beside the adapters; shares storage with the head.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        if !self.distribution.is_normal() {
            return Vec::new();
        }
        vec![
            ("head.spread.weight".to_owned(), self.log_std_head.weight.shallow_clone()),
            ("head.spread.bias".to_owned(), self.log_std_head.bias.shallow_clone()),
        ]
    }

    /// Whether [`StochasticHead::sample`] wants standard normal noise; uniform in [0, 1) where not.
    pub fn wants_normal_noise(&self) -> bool {
        self.distribution.is_normal()
    }

    /// What the temperature's optimiser changes; shares storage with the head.
    pub fn temperature_parameters(&self) -> Vec<(String, Tensor)> {
        vec![("head.log_temperature".to_owned(), self.log_temperature.shallow_clone())]
    }

    /// The entropy's weight.
    pub fn temperature(&self) -> f64 {
        self.log_temperature.exp().double_value(&[])
    }

    /// The losses of one batch.
    pub fn loss(
        &self,
        policy: &TransformerPolicy,
        context: &mut ForwardContext,
        inputs: &Inputs,
    ) -> OnlineLoss {
        let Score { log_probs, entropy, spread } = self.score(policy, context, inputs);
        let (log_likelihood, entropy) = (log_probs.mean(Kind::Float), entropy.mean(Kind::Float)); // []
        let temperature = self.log_temperature.exp();
        OnlineLoss {
            policy: -(&log_likelihood + temperature.detach() * &entropy),
            temperature: temperature * (entropy.detach() - self.target_entropy),
            log_likelihood: log_likelihood.double_value(&[]),
            entropy: entropy.double_value(&[]),
            spread,
        }
    }

    /// Log-probability of every step's recorded action, `[B, T]`, 0 where a step pads; and how they spread.
    pub fn log_probs(
        &self,
        policy: &TransformerPolicy,
        context: &mut ForwardContext,
        inputs: &Inputs,
    ) -> (Tensor, Option<Spread>) {
        let Score { log_probs: found, spread, .. } = self.score(policy, context, inputs); // [N]
        let rows = inputs.mask.flatten(0, -1).nonzero().squeeze_dim(-1); // [N]
        let all = Tensor::zeros([inputs.mask.numel() as i64], (Kind::Float, found.device()));
        (all.index_copy(0, &rows, &found).view_as(&inputs.mask), spread)
    }

    /// Of every real step.
    fn score(&self, policy: &TransformerPolicy, context: &mut ForwardContext, inputs: &Inputs) -> Score {
        let encoded = real_rows(&policy.encode_for_actions(context, inputs), &inputs.mask); // [N, D]
        let head = policy.action_head(context, &encoded); // [N, A] or [N, A · bins]
        let target = real_rows(&inputs.actions, &inputs.mask); // [N, A]
        let sum = |x: &Tensor| x.sum_dim_intlist(-1, false, Kind::Float); // [N, A] → [N]
        let average = |x: &Tensor| x.mean(Kind::Float).double_value(&[]);
        match self.distribution {
            Distribution::Normal(mean) => {
                let (mean, log_std) = (mean.of(&head), self.log_std(&encoded)); // [N, A] each
                let log_probs = clipped_normal::log_prob(&target, &mean, &log_std); // [N, A]
                let entropy = clipped_normal::entropy(&mean, &log_std); // [N, A]
                let saturated = average(&clipped_normal::at_bound(&target).to_kind(Kind::Float));
                let spread = Some(Spread { std: average(&log_std.detach().exp()), saturated });
                Score { log_probs: sum(&log_probs), entropy: sum(&entropy), spread }
            }
            Distribution::Categorical => {
                let log_probs = head.log_softmax(-1, Kind::Float); // [N, A]
                let taken = sum(&(&log_probs * &target)); // [N]
                Score { log_probs: taken, entropy: categorical_entropy(&log_probs), spread: None }
            }
            Distribution::Bins(bins, act_dim) => {
                let log_probs = bins::split(&head, act_dim).log_softmax(-1, Kind::Float); // [N, A, bins]
                let nearest = bins.nearest(&target).unsqueeze(-1); // [N, A, 1]
                let taken = log_probs.gather(-1, &nearest, false).squeeze_dim(-1); // [N, A]
                let entropies = categorical_entropy(&log_probs); // [N, A]
                Score { log_probs: sum(&taken), entropy: sum(&entropies), spread: None }
            }
        }
    }

    /// One action a row, drawn from the distribution: `head` `[B, A]` or `[B, A · bins]`, or some dimensions of it, `encoded`
    /// `[B, D]`, `noise` shaped as `head` → `[B, A]` in [−1, 1], or `[B, 1]` indices.
    pub fn sample(&self, head: &Tensor, encoded: &Tensor, noise: &Tensor) -> Tensor {
        // Gumbel's trick: the largest of logits + Gumbel noise is a draw from their softmax.
        let gumbel = || head - (-(noise + 1e-12).log()).log(); // as `head`
        match self.distribution {
            Distribution::Normal(mean) => {
                (mean.of(head) + self.log_std(encoded).exp() * noise).clamp(-1.0, 1.0)
            }
            Distribution::Categorical => gumbel().argmax(-1, true).to_kind(Kind::Float),
            Distribution::Bins(bins, _) => bins.mode(&bins::split(&gumbel(), head.size()[1] / bins.ids())),
        }
    }

    /// `[…, D]` → `[…, A]`.
    fn log_std(&self, state: &Tensor) -> Tensor {
        let (low, high) = LOG_STD_RANGE;
        (self.log_std_head.forward(state).tanh() + 1.0) * (0.5 * (high - low)) + low
    }
}

/// Entropy of each row of log-probabilities: `[…, n]` → `[…]`.
fn categorical_entropy(log_probs: &Tensor) -> Tensor {
    -(log_probs.exp() * log_probs).sum_dim_intlist(-1, false, Kind::Float)
}

/// Puts a head's tensors back from a checkpoint.
pub fn restore(parameters: &[(String, Tensor)], find: impl Fn(&str) -> Option<Tensor>) -> Result<(), String> {
    tch::no_grad(|| {
        for (name, tensor) in parameters {
            match find(name).filter(|found| found.size() == tensor.size()) {
                Some(found) => tensor.shallow_clone().copy_(&found),
                None => return Err(name.clone()),
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests;
