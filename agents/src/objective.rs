//! What an update minimises: plain imitation, or Online DT's likelihood with an entropy bonus.

use std::f64::consts::{LN_2, TAU};

use tch::{Kind, Reduction, Tensor};

use crate::model::{ActionKind, DecisionTransformer, Inputs, PolicyConfig, bins};
use crate::nn::Linear;
use crate::pass::Pass;

/// Furthest a recorded action may lie from 0, because atanh has no value at ±1.
const ACTION_LIMIT: f64 = 1.0 - 1e-6;

/// Log-deviations of the action distribution lie between these, as in Online DT.
const LOG_STD_RANGE: (f64, f64) = (-5.0, 2.0);

/// The mean loss of plain imitation over real steps: squared error, or cross entropy where actions
/// are discrete or binned.
pub fn imitation(policy: &DecisionTransformer, pass: &mut Pass, inputs: &Inputs) -> Tensor {
    let config = policy.config();
    let encoded = real_rows(&policy.encode_for_actions(pass, inputs), &inputs.mask); // [N, D]
    let head = policy.action_head(pass, &encoded); // [N, A] or [N, A · bins]
    let target = real_rows(&inputs.actions, &inputs.mask); // [N, A]
    match config.action_kind {
        ActionKind::Continuous if config.action_tanh => head.tanh().mse_loss(&target, Reduction::Mean),
        ActionKind::Continuous => head.mse_loss(&target, Reduction::Mean),
        ActionKind::Discrete => head.cross_entropy_for_logits(&target.argmax(-1, false)),
        ActionKind::Binned => {
            let logits = bins::split(&head, config.act_dim).flatten(0, 1); // [N · A, bins]
            let nearest = bins::nearest(&target, logits.size()[1]).flatten(0, 1); // [N · A]
            logits.cross_entropy_for_logits(&nearest)
        }
    }
}

/// Rows of real steps: `[B, T, …]` → `[N, …]`.
fn real_rows(x: &Tensor, mask: &Tensor) -> Tensor {
    let rows = mask.flatten(0, -1).nonzero().squeeze_dim(-1);
    x.flatten(0, 1).index_select(0, &rows)
}

/// The part of Online DT (arXiv 2202.05607) that a deterministic policy lacks: a spread for its
/// actions, and the temperature that holds their entropy at a target.
///
/// Continuous actions are normals around the policy's own head, squashed by tanh where the policy is, so
/// the most likely action is the one that the policy took before; discrete and binned ones are
/// categorical over its logits, each dimension on its own.
#[derive(Debug)]
pub struct StochasticHead {
    distribution: Distribution,
    /// `[D]` → `[A]`, the unsquashed log-deviation; unused where actions are discrete.
    spread: Linear,
    /// `[]`, the entropy's weight is its exponential.
    log_temperature: Tensor,
    target_entropy: f64,
}

#[derive(Clone, Copy, Debug)]
enum Distribution {
    TanhNormal,
    Normal,
    Categorical,
    /// One categorical for each of so many dimensions.
    Bins(i64),
}

impl Distribution {
    fn of(config: &PolicyConfig) -> Self {
        match config.action_kind {
            ActionKind::Continuous if config.action_tanh => Self::TanhNormal,
            ActionKind::Continuous => Self::Normal,
            ActionKind::Discrete => Self::Categorical,
            ActionKind::Binned => Self::Bins(config.act_dim),
        }
    }

    fn is_normal(self) -> bool {
        matches!(self, Self::TanhNormal | Self::Normal)
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
}

impl StochasticHead {
    /// Every state starts with deviation `std` (before tanh); the entropy's weight starts at
    /// `temperature`; its target is −A, or a tenth of the greatest entropy where actions are categorical.
    pub fn new(policy: &DecisionTransformer, std: f64, temperature: f64) -> Self {
        let config = policy.config();
        let options = (Kind::Float, policy.device());
        let (low, high) = LOG_STD_RANGE;
        let unsquashed = ((std.ln() - low) / (high - low) * 2.0 - 1.0).atanh();
        let distribution = Distribution::of(config);
        let target_entropy = match distribution {
            Distribution::TanhNormal | Distribution::Normal => -(config.act_dim as f64),
            Distribution::Categorical => 0.1 * (config.act_dim as f64).ln(),
            Distribution::Bins(act_dim) => {
                0.1 * act_dim as f64 * ((config.action_outputs() / act_dim) as f64).ln()
            }
        };
        Self {
            distribution,
            spread: Linear {
                weight: Tensor::zeros([config.act_dim, config.hidden_size], options).set_requires_grad(true),
                bias: Tensor::full([config.act_dim], unsquashed, options).set_requires_grad(true),
                fan_in_fan_out: false,
            },
            log_temperature: Tensor::full([0i64; 0], temperature.ln(), options).set_requires_grad(true),
            target_entropy,
        }
    }

    /// The same for another thread, to draw by; the numbers are shared.
    pub fn share(&self) -> Self {
        Self {
            distribution: self.distribution,
            spread: Linear {
                weight: self.spread.weight.shallow_clone(),
                bias: self.spread.bias.shallow_clone(),
                fan_in_fan_out: self.spread.fan_in_fan_out,
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
            ("head.spread.weight".to_owned(), self.spread.weight.shallow_clone()),
            ("head.spread.bias".to_owned(), self.spread.bias.shallow_clone()),
        ]
    }

    /// Whether [`StochasticHead::draw`] wants standard normal noise; uniform in [0, 1) where not.
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

    /// The losses of one batch; draws one action a step for the entropy's estimate.
    pub fn loss(&self, policy: &DecisionTransformer, pass: &mut Pass, inputs: &Inputs) -> OnlineLoss {
        let (log_likelihood, entropy) = self.score(policy, pass, inputs); // [N] each
        let (log_likelihood, entropy) = (log_likelihood.mean(Kind::Float), entropy.mean(Kind::Float)); // []
        let temperature = self.log_temperature.exp();
        OnlineLoss {
            policy: -(&log_likelihood + temperature.detach() * &entropy),
            temperature: temperature * (entropy.detach() - self.target_entropy),
            log_likelihood: log_likelihood.double_value(&[]),
            entropy: entropy.double_value(&[]),
        }
    }

    /// Log-probability of every step's recorded action: `[B, T]`, 0 where a step pads.
    pub fn log_probs(&self, policy: &DecisionTransformer, pass: &mut Pass, inputs: &Inputs) -> Tensor {
        let (found, _entropy) = self.score(policy, pass, inputs); // [N]
        let rows = inputs.mask.flatten(0, -1).nonzero().squeeze_dim(-1); // [N]
        let all = Tensor::zeros([inputs.mask.numel() as i64], (Kind::Float, found.device()));
        all.index_copy(0, &rows, &found).view_as(&inputs.mask)
    }

    /// Log-probability of the recorded action and entropy of every real step: `[N]` each; draws one
    /// action a step for the entropy's estimate.
    fn score(&self, policy: &DecisionTransformer, pass: &mut Pass, inputs: &Inputs) -> (Tensor, Tensor) {
        let encoded = real_rows(&policy.encode_for_actions(pass, inputs), &inputs.mask); // [N, D]
        let head = policy.action_head(pass, &encoded); // [N, A] or [N, A · bins]
        let target = real_rows(&inputs.actions, &inputs.mask); // [N, A]
        match self.distribution {
            Distribution::TanhNormal => {
                let log_std = self.log_std(&encoded); // [N, A]
                let recorded = target.clamp(-ACTION_LIMIT, ACTION_LIMIT).atanh(); // [N, A]
                let drawn = &head + log_std.exp() * head.randn_like(); // [N, A]
                (
                    tanh_normal_log_prob(&recorded, &head, &log_std),
                    -tanh_normal_log_prob(&drawn, &head, &log_std),
                )
            }
            Distribution::Normal => {
                let log_std = self.log_std(&encoded); // [N, A]
                let entropy = (&log_std + 0.5 * (TAU.ln() + 1.0)).sum_dim_intlist(-1, false, Kind::Float);
                (normal_log_prob(&target, &head, &log_std).sum_dim_intlist(-1, false, Kind::Float), entropy)
            }
            Distribution::Categorical => {
                let log_probs = head.log_softmax(-1, Kind::Float); // [N, A]
                let taken = (&log_probs * &target).sum_dim_intlist(-1, false, Kind::Float); // [N]
                (taken, categorical_entropy(&log_probs))
            }
            Distribution::Bins(act_dim) => {
                let log_probs = bins::split(&head, act_dim).log_softmax(-1, Kind::Float); // [N, A, bins]
                let nearest = bins::nearest(&target, log_probs.size()[2]).unsqueeze(-1); // [N, A, 1]
                let taken = log_probs.gather(-1, &nearest, false).squeeze_dim(-1); // [N, A]
                let entropies = categorical_entropy(&log_probs); // [N, A]
                let sum = |x: Tensor| x.sum_dim_intlist(-1, false, Kind::Float); // [N]
                (sum(taken), sum(entropies))
            }
        }
    }

    /// One action a row, drawn from the distribution: `head` `[B, A]` or `[B, A · bins]`, `encoded`
    /// `[B, D]`, `noise` shaped as `head` → `[B, A]` in [−1, 1], or `[B, 1]` indices.
    pub fn draw(&self, head: &Tensor, encoded: &Tensor, noise: &Tensor) -> Tensor {
        // Gumbel's trick: the largest of logits + Gumbel noise is a draw from their softmax.
        let gumbel = || head - (-(noise + 1e-12).log()).log(); // as `head`
        match self.distribution {
            Distribution::TanhNormal => (head + self.log_std(encoded).exp() * noise).tanh(),
            Distribution::Normal => (head + self.log_std(encoded).exp() * noise).clamp(-1.0, 1.0),
            Distribution::Categorical => gumbel().argmax(-1, true).to_kind(Kind::Float),
            Distribution::Bins(act_dim) => bins::likeliest(&bins::split(&gumbel(), act_dim)),
        }
    }

    /// `[…, D]` → `[…, A]`.
    fn log_std(&self, state: &Tensor) -> Tensor {
        let (low, high) = LOG_STD_RANGE;
        (self.spread.forward(state).tanh() + 1.0) * (0.5 * (high - low)) + low
    }
}

/// Log-density of tanh(u) for u ~ Normal(mean, exp(log_std)), summed over dimensions:
/// `[N, A]` each → `[N]`.
///
/// `log(1 − tanh²u) = 2·(ln 2 − u − softplus(−2u))` stays exact where tanh has rounded to ±1.
fn tanh_normal_log_prob(u: &Tensor, mean: &Tensor, log_std: &Tensor) -> Tensor {
    let squash = (-u + LN_2 - (u * -2.0).softplus()) * 2.0; // [N, A]
    (normal_log_prob(u, mean, log_std) - squash).sum_dim_intlist(-1, false, Kind::Float)
}

/// Log-density of Normal(mean, exp(log_std)) a dimension: `[N, A]` each → `[N, A]`.
fn normal_log_prob(x: &Tensor, mean: &Tensor, log_std: &Tensor) -> Tensor {
    let z = (x - mean) / log_std.exp();
    z.square() * -0.5 - log_std - 0.5 * TAU.ln()
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
    use tch::Device;

    use super::*;
    use crate::adapter::AdapterSet;
    use crate::pass::NoTap;

    /// The same density in float64, from the definition.
    fn reference(u: f64, mean: f64, log_std: f64) -> f64 {
        let z = (u - mean) / log_std.exp();
        let derivative = 1.0 / u.cosh().powi(2);
        -0.5 * z * z - log_std - 0.5 * TAU.ln() - derivative.ln()
    }

    #[test]
    fn log_densities_hold_where_tanh_has_rounded_to_one() {
        for u in [-9.0, -7.25, -1.0, 0.0, 0.3, 5.0, 9.0] {
            for log_std in [-5.0, -1.0, 2.0] {
                let mean = u - 0.7 * f64::exp(log_std);
                let [a, b, c] = [u, mean, log_std].map(|x| Tensor::from_slice(&[x]).view([1, 1]));
                let found = tanh_normal_log_prob(&a, &b, &c).double_value(&[0]);
                let expected = reference(u, mean, log_std);
                assert!((found - expected).abs() < 1e-4, "u {u}: {found}, expected {expected}");
            }
        }
    }

    fn policy(change: impl FnOnce(&mut PolicyConfig)) -> DecisionTransformer {
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
        DecisionTransformer::new(config, Device::Cpu)
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
    fn outputs(policy: &DecisionTransformer, inputs: &Inputs) -> Vec<Vec<f64>> {
        let no_adapters = AdapterSet::default();
        let mut pass = Pass { adapters: &no_adapters, tap: &mut NoTap, train: false, mixed: false };
        let head = policy.encode_for_actions(&mut pass, inputs);
        let head = policy.action_head(&mut pass, &head).squeeze_dim(0).to_kind(Kind::Double);
        Vec::<Vec<f64>>::try_from(head).unwrap()
    }

    fn log_likelihood(policy: &DecisionTransformer, head: &StochasticHead, inputs: &Inputs) -> f64 {
        let no_adapters = AdapterSet::default();
        let mut pass = Pass { adapters: &no_adapters, tap: &mut NoTap, train: false, mixed: false };
        head.loss(policy, &mut pass, inputs).log_likelihood
    }

    #[test]
    fn actions_at_their_bounds_have_the_density_of_the_definition() {
        let policy = policy(|_| {});
        let head = StochasticHead::new(&policy, 0.3, 0.1);
        let actions = [1.0, -1.0, 0.25, -0.999];
        let inputs = inputs(&actions);
        let means = outputs(&policy, &inputs).concat();
        let mut expected = 0.0;
        for (action, mean) in actions.iter().zip(means) {
            let limit = f64::from(ACTION_LIMIT as f32); // as f32 rounds it
            let u = f64::from(*action).clamp(-limit, limit).atanh();
            expected += reference(u, mean, 0.3f64.ln()) / 2.0; // the mean over two steps
        }
        let found = log_likelihood(&policy, &head, &inputs);
        assert!((found - expected).abs() < 1e-3 * expected.abs(), "{found}, expected {expected}");
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
            let no_adapters = AdapterSet::default();
            let mut pass = Pass { adapters: &no_adapters, tap: &mut NoTap, train: false, mixed: false };
            let outputs = policy.action_head(&mut pass, &encoded); // [1, A]
            let drawn = head.draw(&outputs, &encoded, &outputs.zeros_like());
            assert_eq!(drawn, crate::model::likeliest(policy.config(), &outputs));
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
