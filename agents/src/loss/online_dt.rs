//! Online DT's loss (arXiv 2202.05607): the likelihood of the recorded actions, and an entropy bonus.

use tch::{Kind, Tensor};

use super::clipped_normal;
use super::rows::real_rows;
use crate::adapter::AdapterSet;
use crate::model::heads::bins;
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
    /// One categorical for each of so many dimensions.
    Bins(i64),
}

impl Distribution {
    fn of(config: &PolicyConfig) -> Self {
        match config.action_kind {
            ActionKind::Continuous if config.action_tanh => Self::Normal(Mean::Tanh),
            ActionKind::Continuous => Self::Normal(Mean::Head),
            ActionKind::Discrete => Self::Categorical,
            ActionKind::Binned => Self::Bins(config.act_dim),
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
            Distribution::Bins(act_dim) => {
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
            Distribution::Bins(act_dim) => {
                let log_probs = bins::split(&head, act_dim).log_softmax(-1, Kind::Float); // [N, A, bins]
                let nearest = bins::nearest(&target, log_probs.size()[2]).unsqueeze(-1); // [N, A, 1]
                let taken = log_probs.gather(-1, &nearest, false).squeeze_dim(-1); // [N, A]
                let entropies = categorical_entropy(&log_probs); // [N, A]
                Score { log_probs: sum(&taken), entropy: sum(&entropies), spread: None }
            }
        }
    }

    /// One action a row, drawn from the distribution: `head` `[B, A]` or `[B, A · bins]`, `encoded`
    /// `[B, D]`, `noise` shaped as `head` → `[B, A]` in [−1, 1], or `[B, 1]` indices.
    pub fn sample(&self, head: &Tensor, encoded: &Tensor, noise: &Tensor) -> Tensor {
        // Gumbel's trick: the largest of logits + Gumbel noise is a draw from their softmax.
        let gumbel = || head - (-(noise + 1e-12).log()).log(); // as `head`
        match self.distribution {
            Distribution::Normal(mean) => {
                (mean.of(head) + self.log_std(encoded).exp() * noise).clamp(-1.0, 1.0)
            }
            Distribution::Categorical => gumbel().argmax(-1, true).to_kind(Kind::Float),
            Distribution::Bins(act_dim) => bins::mode(&bins::split(&gumbel(), act_dim)),
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
mod tests {
    use std::f64::consts::TAU;

    use tch::Device;

    use super::*;

    fn policy(change: impl FnOnce(&mut PolicyConfig)) -> TransformerPolicy {
        let mut config = PolicyConfig {
            state_dim: 2,
            act_dim: 2,
            hidden_size: 8,
            max_ep_len: 8,
            n_positions: 8,
            n_layer: 1,
            initializer_range: 0.5,
            ..Default::default()
        };
        change(&mut config);
        tch::manual_seed(5);
        TransformerPolicy::new(config, Device::Cpu)
    }

    /// One window of two steps with these actions `[2, A]`.
    fn inputs(actions: &[f32]) -> Inputs {
        let float = (Kind::Float, Device::Cpu);
        Inputs {
            states: Tensor::ones([1, 2, 2], float),
            actions: Tensor::from_slice(actions).view([1, 2, -1]),
            rewards: None,
            returns_to_go: Tensor::ones([1, 2, 1], float),
            timesteps: Tensor::zeros([1, 2], (Kind::Int64, Device::Cpu)),
            mask: Tensor::ones([1, 2], (Kind::Bool, Device::Cpu)),
        }
    }

    /// The policy's head outputs for these inputs, in f64: `[2, …]`.
    fn outputs(policy: &TransformerPolicy, inputs: &Inputs) -> Vec<Vec<f64>> {
        let mut context = ForwardContext::bare();
        let head = policy.encode_for_actions(&mut context, inputs);
        let head = policy.action_head(&mut context, &head).squeeze_dim(0).to_kind(Kind::Double);
        Vec::<Vec<f64>>::try_from(head).unwrap()
    }

    fn log_likelihood(policy: &TransformerPolicy, head: &StochasticHead, inputs: &Inputs) -> f64 {
        let mut context = ForwardContext::bare();
        head.loss(policy, &mut context, inputs).log_likelihood
    }

    /// ln Φ(z), by the continued fraction of Mills' ratio where z < −1, and by the series of erf elsewhere.
    fn log_ndtr(z: f64) -> f64 {
        let log_phi = -0.5 * z * z - 0.5 * TAU.ln();
        if z < -1.0 {
            let ratio = (1..500).rev().fold(-z, |below, k| -z + f64::from(k) / below);
            return log_phi - ratio.ln();
        }
        let mut term = z;
        let mut sum = z;
        for k in 1..300 {
            term *= z * z / f64::from(2 * k + 1);
            sum += term;
        }
        (0.5 + log_phi.exp() * sum).ln()
    }

    #[test]
    fn recorded_actions_have_their_density_or_their_bound_s_probability() {
        let actions = [1.0, -1.0, 0.25, -0.999];
        for tanh in [true, false] {
            let policy = policy(|config| config.action_tanh = tanh);
            let head = StochasticHead::new(&policy, 0.3, 0.1);
            let inputs = inputs(&actions);
            let mut expected = 0.0;
            for (action, output) in actions.iter().zip(outputs(&policy, &inputs).concat()) {
                let mean = if tanh { output.tanh() } else { output };
                let (action, std) = (f64::from(*action), 0.3f64);
                let z = (action - mean) / std;
                expected += match action.abs() == 1.0 {
                    true => log_ndtr((action * mean - 1.0) / std),
                    false => -0.5 * z * z - std.ln() - 0.5 * TAU.ln(),
                };
            }
            let expected = expected / 2.0; // the mean over two steps
            let found = log_likelihood(&policy, &head, &inputs);
            assert!((found - expected).abs() < 1e-3 * expected.abs(), "{found}, expected {expected}");
        }
    }

    #[test]
    fn saturated_batches_have_a_bounded_loss_and_gradient() {
        for tanh in [true, false] {
            let policy = policy(|config| config.action_tanh = tanh);
            let head = StochasticHead::new(&policy, 0.3, 0.1);
            let inputs = inputs(&[1.0, -1.0, -1.0, 1.0]);
            let mut context = ForwardContext::bare();
            let loss = head.loss(&policy, &mut context, &inputs);
            assert_eq!(loss.spread.unwrap().saturated, 1.0);
            assert!((loss.spread.unwrap().std - 0.3).abs() < 1e-6);
            // −log Φ(−z) < (z + 1)²/2 for z > 0, whose derivative in log σ is less than (z + 1)².
            let furthest = outputs(&policy, &inputs).concat().into_iter().fold(0.0, |most: f64, output| {
                most.max(if tanh { output.tanh().abs() } else { output.abs() })
            });
            let limit = ((1.0 + furthest) / 0.3 + 1.0).powi(2);
            let lost = -loss.log_likelihood; // of two numbers per step
            assert!(0.0 < lost && lost < limit, "{lost}, limit {limit}");
            loss.policy.backward();
            let (low, high) = LOG_STD_RANGE;
            let steepest = 0.5 * (high - low) * limit; // tanh's own slope is at most 1
            let found = head.log_std_head.bias.grad().abs().max().double_value(&[]);
            assert!(found < steepest, "{found}, limit {steepest}");
        }
    }

    /// Ratios of a policy gradient compare likelihoods of what was drawn, so under those by which it was drawn
    /// their mean is 1: with saturated draws too.
    #[test]
    fn the_ratio_to_another_policy_has_mean_one_over_drawn_actions() {
        tch::manual_seed(9);
        let policy = policy(|config| config.action_tanh = false);
        let options = (Kind::Float, Device::Cpu);
        let (steps, encoded) = (200_000, Tensor::zeros([1, 8], (Kind::Float, Device::Cpu)));
        let (here, there) = (StochasticHead::new(&policy, 0.4, 0.1), StochasticHead::new(&policy, 0.3, 0.1));
        let [at_here, at_there] =
            [[0.9f32, -0.6], [0.8, -0.7]].map(|mean| Tensor::from_slice(&mean).expand([steps, 2], false));
        let drawn = here.sample(&at_here, &encoded, &Tensor::randn([steps, 2], options)); // [N, A]
        let saturated = clipped_normal::at_bound(&drawn).to_kind(Kind::Float).mean(Kind::Float);
        assert!(saturated.double_value(&[]) > 0.25);
        let log_prob = |head: &StochasticHead, mean: &Tensor| {
            let log_std = head.log_std(&encoded).expand_as(mean);
            clipped_normal::log_prob(&drawn, mean, &log_std).sum_dim_intlist(-1, false, Kind::Float) // [N]
        };
        let ratio = (log_prob(&there, &at_there) - log_prob(&here, &at_here)).exp();
        let mean = ratio.mean(Kind::Float).double_value(&[]);
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
    }

    #[test]
    fn the_spread_starts_at_the_residuals_of_the_policy() {
        tch::manual_seed(4);
        for tanh in [true, false] {
            let policy = policy(|config| config.action_tanh = tanh);
            let head = StochasticHead::new(&policy, 0.3, 0.1);
            let batches: Vec<Inputs> = (0..500)
                .map(|_| {
                    let mut inputs = inputs(&[0.0; 4]);
                    inputs.states = Tensor::randn([1, 2, 2], (Kind::Float, Device::Cpu));
                    inputs.mask = Tensor::from_slice(&[false, true]).view([1, 2]);
                    let means = Tensor::from_slice2(&outputs(&policy, &inputs)).to_kind(Kind::Float); // [2, A], one row of padding
                    let means = if tanh { means.tanh() } else { means };
                    let noise = means.randn_like() * Tensor::from_slice(&[0.1f32, 0.5]);
                    // What is recorded of the last step does not change what is done in it.
                    let recorded = (means + noise).clamp(-1.0, 1.0).unsqueeze(0); // [1, 2, A]
                    Inputs { actions: recorded, ..inputs }
                })
                .collect();
            let found = head.residual_std(&policy, &AdapterSet::default(), &batches).unwrap();
            for (index, known) in [0.1, 0.5].into_iter().enumerate() {
                let found = found.double_value(&[index as i64]);
                assert!((found / known - 1.0).abs() < 0.1, "{found}, known {known}");
            }
            head.initialise_std(&found);
            let std = head.log_std(&Tensor::randn([5, 8], (Kind::Float, Device::Cpu))).exp();
            assert!((std - found).abs().max().double_value(&[]) < 1e-5);
        }
    }

    #[test]
    fn binned_and_discrete_actions_have_their_softmax_s_likelihood() {
        let log_prob = |logits: &[f64], taken: usize| {
            logits[taken] - logits.iter().map(|logit| logit.exp()).sum::<f64>().ln()
        };
        let binned = policy(|config| {
            (config.action_kind, config.action_bins, config.action_tanh) =
                (ActionKind::Binned, Some(3), false);
        });
        let given = inputs(&[-1.0, 0.1, 0.9, -0.2]); // bins 0, 1 and 2, 1
        let logits = outputs(&binned, &given);
        let expected: f64 = [(0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 1)]
            .map(|(step, dimension, bin)| log_prob(&logits[step][3 * dimension..][..3], bin))
            .iter()
            .sum();
        let head = StochasticHead::new(&binned, 0.3, 0.1);
        assert!((log_likelihood(&binned, &head, &given) - expected / 2.0).abs() < 1e-5);

        let discrete = policy(|config| {
            (config.action_kind, config.action_tanh) = (ActionKind::Discrete, false);
        });
        let given = inputs(&[0.0, 1.0, 1.0, 0.0]); // one-hot
        let logits = outputs(&discrete, &given);
        let expected = log_prob(&logits[0], 1) + log_prob(&logits[1], 0);
        let head = StochasticHead::new(&discrete, 0.3, 0.1);
        assert!((log_likelihood(&discrete, &head, &given) - expected / 2.0).abs() < 1e-5);
    }

    #[test]
    fn without_noise_a_head_draws_what_the_deterministic_policy_does() {
        for tanh in [true, false] {
            let policy = policy(|config| config.action_tanh = tanh);
            let head = StochasticHead::new(&policy, 0.3, 0.1);
            let inputs = inputs(&[0.0; 4]);
            let encoded = policy.encode_for_acting(&inputs); // [1, D]
            let mut context = ForwardContext::bare();
            let outputs = policy.action_head(&mut context, &encoded); // [1, A]
            let drawn = head.sample(&outputs, &encoded, &outputs.zeros_like());
            assert_eq!(drawn, crate::model::heads::mode(policy.config(), &outputs));
        }
    }

    #[test]
    fn the_spread_starts_where_it_was_asked_to() {
        let head = StochasticHead::new(&policy(|_| {}), 0.3, 0.1);
        let std = head.log_std(&Tensor::randn([5, 8], (Kind::Float, Device::Cpu))).exp();
        assert!((std - 0.3).abs().max().double_value(&[]) < 1e-6);
        assert!((head.temperature() - 0.1).abs() < 1e-7);
    }
}
