//! Normal action numbers clipped to [−1, 1]: what is recorded at a bound is censored.
//!
//! A number is u ~ Normal(m, σ) around the policy's own, clipped as environments clip. At a bound the record
//! says only that u lay beyond it, so it has the probability of that tail, Φ((±m − 1)/σ), and any other number
//! has the normal density; all of it together is 1 (Tobin 1958, doi 10.2307/1907382).
//!
//! Online DT has tanh(u) instead, u ~ Normal(μ, σ) with m = tanh μ. Clipped data is hard on that: a number at
//! its bound would be a target of ∞ before tanh, or of 7.25 where it is cut at 1 − 1e-6, hundreds of nats from
//! a policy that was pretrained to get close; and censored there, noise that is even in the action is still wide
//! before tanh, so that draws go from bound to bound. A policy pretrained by squared error is the mode here.

use std::f64::consts::{LN_2, SQRT_2, TAU};

use tch::{Kind, Tensor};

/// A number at least so far from 0 is at its bound; the rest is what rounding costs on the way to an
/// environment's units and back.
const AT_BOUND: f64 = 1.0 - 1e-6;

/// Whether numbers are at their bounds: `[…]` → `[…]`.
pub fn at_bound(actions: &Tensor) -> Tensor {
    actions.abs().ge(AT_BOUND)
}

/// Log-probability at a bound, log-density between them, of each recorded number: `[…, A]` each.
pub fn log_prob(actions: &Tensor, mean: &Tensor, log_std: &Tensor) -> Tensor {
    let z = (actions - mean) / log_std.exp();
    let density = z.square() * -0.5 - log_std - 0.5 * TAU.ln();
    let beyond = (actions.sign() * mean - AT_BOUND) / log_std.exp();
    log_ndtr(&beyond).where_self(&at_bound(actions), &density)
}

/// Entropy of each number, as [`log_prob`] counts it: `[…, A]` each.
///
/// With P the tails' probabilities, Z = 1 − ΣP, α and β the bounds' z-scores and φ the standard normal density,
/// it is −ΣP·ln P + Z·ln(σ√2π) + ½(Z + αφ(α) − βφ(β)). A number that is always at one bound has 0.
pub fn entropy(mean: &Tensor, log_std: &Tensor) -> Tensor {
    let std = log_std.exp();
    let (alpha, beta) = ((-mean - AT_BOUND) / &std, (-mean + AT_BOUND) / &std);
    let (low, high) = (log_ndtr(&alpha), log_ndtr(&-&beta));
    let (p_low, p_high) = (low.exp(), high.exp());
    let between = (-(&p_low + &p_high) + 1.0).clamp_min(0.0);
    let phi = |z: &Tensor| (z.square() * -0.5).exp() / TAU.sqrt();
    let squares = &between + &alpha * phi(&alpha) - &beta * phi(&beta); // ∫z²φ between the bounds
    between * (log_std + 0.5 * TAU.ln()) + squares * 0.5 - (p_low * low + p_high * high)
}

/// For each of A numbers the log-deviation between `low` and `high`, to half a hundredth, under which what was
/// recorded is most likely around these means: `[N, A]` each → `[A]`.
pub fn most_likely_log_std(actions: &Tensor, mean: &Tensor, low: f64, high: f64) -> Tensor {
    let likelihood = |log_std: &Tensor| {
        log_prob(actions, mean, &log_std.expand_as(mean)).mean_dim(0i64, false, Kind::Float)
    };
    let search = |middle: &Tensor, step: f64, reach: i64| {
        let tried: Vec<Tensor> =
            (-reach..=reach).map(|k| (middle + step * k as f64).clamp(low, high)).collect(); // [A] each
        let found: Vec<Tensor> = tried.iter().map(likelihood).collect();
        let best = Tensor::stack(&found, 0).argmax(0, true); // [1, A]
        Tensor::stack(&tried, 0).gather(0, &best, false).squeeze_dim(0) // [A]
    };
    let middle = Tensor::full([mean.size()[1]], 0.5 * (low + high), (Kind::Float, mean.device()));
    let coarse = search(&middle, 0.1, ((high - low) / 0.2).ceil() as i64);
    search(&coarse, 0.005, 20)
}

/// Log of the standard normal's distribution function: `[…]` → `[…]`.
///
/// libtorch's own has the right values, but its gradient loses all digits far in the tail: there it is the
/// exponential of the difference of two large numbers.
fn log_ndtr(z: &Tensor) -> Tensor {
    let tail = z.clamp_max(-1.0);
    let tail = (&tail / -SQRT_2).special_erfcx().log() - LN_2 - tail.square() * 0.5;
    z.clamp_min(-1.0).special_log_ndtr().where_self(&z.ge(-1.0), &tail)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn tensor(numbers: &[f64]) -> Tensor {
        Tensor::from_slice(numbers).to_kind(Kind::Float)
    }

    /// ln Φ(z) in f64, by Simpson's rule over φ(z − t)/φ(z) = exp(zt − t²/2) for t ≥ 0.
    fn log_ndtr_reference(z: f64) -> f64 {
        let (steps, furthest) =
            (200_000, 40.0_f64.min(40.0 / z.abs().max(1.0)).max(if z > -1.0 { 40.0 } else { 0.0 }));
        let h = furthest / f64::from(steps);
        let at = |k: i32| {
            let t = h * f64::from(k);
            (z * t - 0.5 * t * t).exp()
        };
        let sum: f64 = (0..=steps)
            .map(|k| {
                at(k)
                    * if k == 0 || k == steps {
                        1.0
                    } else if k % 2 == 1 {
                        4.0
                    } else {
                        2.0
                    }
            })
            .sum();
        (sum * h / 3.0).ln() - 0.5 * z * z - 0.5 * TAU.ln()
    }

    /// The same log-probability in f64, from the definition.
    fn reference(action: f64, mean: f64, std: f64) -> f64 {
        if action.abs() >= AT_BOUND {
            return log_ndtr_reference((action.signum() * mean - AT_BOUND) / std);
        }
        let z = (action - mean) / std;
        -0.5 * z * z - std.ln() - 0.5 * TAU.ln()
    }

    /// The sum of the two bounds' terms and of the integral between them of `term(log-probability)`.
    fn total(mean: f64, std: f64, term: impl Fn(&Tensor) -> Tensor) -> f64 {
        let steps = 20_000;
        let middles = (Tensor::arange(steps, (Kind::Double, Device::Cpu)) + 0.5) * (2.0 / steps as f64) - 1.0;
        let of = |actions: &Tensor| {
            let like = |x: f64| actions.zeros_like() + x;
            term(&log_prob(actions, &like(mean), &like(std.ln()))).sum(Kind::Double).double_value(&[])
        };
        of(&middles) * 2.0 / steps as f64 + of(&Tensor::from_slice(&[-1.0f64, 1.0]))
    }

    const MEANS: [f64; 5] = [-1.3, -0.99, 0.0, 0.4, 1.0];
    const STDS: [f64; 4] = [0.02, 0.3, 1.0, 5.0];

    #[test]
    fn likelihoods_are_the_definition_s_at_the_bounds_and_between() {
        for action in [-1.0, -0.999, 0.0, 0.3, 1.0] {
            for mean in MEANS {
                for std in STDS {
                    let found = log_prob(&tensor(&[action]), &tensor(&[mean]), &tensor(&[std.ln()]));
                    let (found, expected) = (found.double_value(&[0]), reference(action, mean, std));
                    let off = (found - expected).abs() / expected.abs().max(1.0);
                    assert!(off < 2e-4, "{action} from {mean} ± {std}: {found}, expected {expected}");
                }
            }
        }
    }

    #[test]
    fn all_actions_together_have_probability_one() {
        for mean in MEANS {
            for std in STDS {
                let found = total(mean, std, |log_prob| log_prob.exp());
                assert!((found - 1.0).abs() < 1e-4, "{mean} ± {std}: {found}");
            }
        }
    }

    #[test]
    fn entropies_are_the_mean_of_the_negative_log_probability() {
        for mean in MEANS {
            for std in STDS {
                let expected = total(mean, std, |log_prob| log_prob.exp() * -log_prob);
                let found = entropy(&tensor(&[mean]), &tensor(&[std.ln()])).double_value(&[0]);
                assert!((found - expected).abs() < 2e-4, "{mean} ± {std}: {found}, expected {expected}");
            }
        }
    }

    #[test]
    fn actions_at_their_bounds_have_a_bounded_loss_and_a_bounded_gradient() {
        let actions = tensor(&[1.0, 1.0, 1.0, -1.0, -1.0]);
        let mean = tensor(&[0.98, 0.0, -0.98, 0.3, -3.0]).set_requires_grad(true);
        let log_std = tensor(&[0.3f64.ln(); 5]).set_requires_grad(true);
        let found = log_prob(&actions, &mean, &log_std);
        found.sum(Kind::Float).backward();
        for (index, (action, m)) in
            [(1.0, 0.98), (1.0, 0.0), (1.0, -0.98), (-1.0, 0.3), (-1.0, -3.0)].into_iter().enumerate()
        {
            let at = index as i64;
            let step = 1e-3;
            let [up, down] = [step, -step].map(|step| reference(action, m + step, 0.3));
            let expected = (up - down) / (2.0 * step);
            let gradient = mean.grad().double_value(&[at]);
            assert!((gradient - expected).abs() < 1e-3 * expected.abs().max(1.0), "{gradient}, {expected}");
            let [up, down] = [step, -step].map(|step: f64| reference(action, m, 0.3 * step.exp()));
            let expected = (up - down) / (2.0 * step);
            let gradient = log_std.grad().double_value(&[at]);
            assert!((gradient - expected).abs() < 1e-3 * expected.abs().max(1.0), "{gradient}, {expected}");
            // Opposite bounds are 2/σ deviations apart, and no loss is greater than that one's.
            assert!((-25.0..0.0).contains(&found.double_value(&[at])));
        }
    }

    #[test]
    fn gradients_hold_far_in_the_tail() {
        for z in [-1.5, -30.0, -2000.0, -1e6] {
            let x = tensor(&[z]).set_requires_grad(true);
            log_ndtr(&x).sum(Kind::Float).backward();
            let expected = if z > -2.0 {
                (-0.5 * z * z - 0.5 * TAU.ln() - log_ndtr_reference(z)).exp()
            } else {
                -z - 1.0 / z
            };
            let found = x.grad().double_value(&[0]);
            assert!((found / expected - 1.0).abs() < 1e-3, "at {z}: {found}, expected {expected}");
        }
    }

    #[test]
    fn the_most_likely_deviation_is_the_one_that_the_noise_had() {
        tch::manual_seed(2);
        let mean = Tensor::rand([20_000, 3], (Kind::Float, Device::Cpu)) * 2.0 - 1.0; // [N, A]
        let known = [0.05, 0.5, 0.9];
        let actions = (&mean + mean.randn_like() * tensor(&known)).clamp(-1.0, 1.0); // [N, A]
        let found = most_likely_log_std(&actions, &mean, 0.01f64.ln(), 0.95f64.ln()).exp();
        for (index, known) in known.iter().enumerate() {
            let found = found.double_value(&[index as i64]);
            assert!((found / known - 1.0).abs() < 0.03, "{found}, known {known}");
        }
        // Residuals that are nowhere, and those that no deviation is too wide for.
        let ones = Tensor::ones([8, 1], (Kind::Float, Device::Cpu));
        for (actions, mean, expected) in [(&ones * 0.5, &ones * 0.5, 0.01), (ones.copy(), -&ones, 0.95)] {
            let found = most_likely_log_std(&actions, &mean, 0.01f64.ln(), 0.95f64.ln()).exp();
            assert!((found.double_value(&[0]) - expected).abs() < 1e-4, "{expected}");
        }
    }
}
