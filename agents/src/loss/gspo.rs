//! Clipped policy gradients with one likelihood ratio a sequence (GSPO, arXiv 2507.18071).
//!
//! With s = exp(mean over t of (log π − log π_old)), every step has the ratio
//! sₜ = sg[s] · π(aₜ)/sg[π(aₜ)]: the value of its sequence's, and the gradient of its own likelihood.
//! Minimised is −mean over t of min(sₜ·Âₜ, clip(sₜ, 1 − ε, 1 + ε)·Âₜ), with s at most 3: where Âₜ < 0 the
//! minimum bounds nothing, and one unlikely sequence would outweigh all others (dual clip, arXiv 1912.09729).

use tch::{Kind, Tensor};

/// The greatest likelihood ratio that counts as it is.
const GREATEST_RATIO: f64 = 3.0;

/// What one batch of sequences gives.
#[derive(Debug)]
pub struct PolicyGradient {
    /// To be minimised, `[]`.
    pub loss: Tensor,
    /// Share of the sequences whose ratio lies outside 1 ± clip.
    pub clipped: f64,
}

/// The loss of sequences: log-probabilities `now` and `before` `[B, T]`, `advantages` `[B, T]`; `counted`
/// `[B, T]` is 1 where a step counts and 0 elsewhere, and at least one counts.
pub fn sequence_policy_gradient(
    now: &Tensor,
    before: &Tensor,
    advantages: &Tensor,
    counted: &Tensor,
    clip: f64,
) -> PolicyGradient {
    let sum = |x: &Tensor| x.sum_dim_intlist(-1, true, Kind::Float); // [B, 1]
    let lengths = sum(counted).clamp_min(1.0);
    let ratio = (sum(&((now.detach() - before) * counted)) / lengths).exp(); // [B, 1]
    let (low, high) = (1.0 - clip, 1.0 + clip);
    let outside = ratio.lt(low).logical_or(&ratio.gt(high)).to_kind(Kind::Float); // [B, 1]

    let each = ratio.clamp_max(GREATEST_RATIO) * (now - now.detach()).exp(); // [B, T]
    let gain = (&each * advantages).minimum(&(each.clamp(low, high) * advantages)); // [B, T]
    PolicyGradient {
        loss: -(gain * counted).sum(Kind::Float) / counted.sum(Kind::Float),
        clipped: outside.mean(Kind::Float).double_value(&[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f32]) -> Tensor {
        Tensor::from_slice(values).unsqueeze(0)
    }

    /// The gradient with respect to `now`.
    fn gradient(now: &[f32], before: &[f32], advantages: &[f32], counted: &[f32]) -> Vec<f32> {
        let now = row(now).set_requires_grad(true);
        let found = sequence_policy_gradient(&now, &row(before), &row(advantages), &row(counted), 0.2);
        found.loss.backward();
        Vec::try_from(now.grad().squeeze_dim(0)).unwrap()
    }

    #[test]
    fn at_the_old_policy_every_step_is_pushed_by_its_own_advantage() {
        let at = [-1.0, -2.0, -0.5, -3.0];
        let found = gradient(&at, &at, &[2.0, -1.0, 0.5, 9.0], &[1.0, 1.0, 1.0, 0.0]);
        for (found, wanted) in found.iter().zip([-2.0 / 3.0, 1.0 / 3.0, -0.5 / 3.0, 0.0]) {
            assert!((found - wanted).abs() < 1e-6, "{found} {wanted}");
        }
    }

    #[test]
    fn a_sequence_that_has_gone_far_enough_is_pushed_no_further_and_may_come_back() {
        // Mean log-ratio 0.5: s = 1.65, above 1.2.
        let found = gradient(&[-1.0, -1.0], &[-1.0, -2.0], &[1.0, -1.0], &[1.0, 1.0]);
        assert_eq!(found[0], 0.0);
        assert!((found[1] - 0.5_f32.exp() / 2.0).abs() < 1e-5, "{}", found[1]);
    }

    #[test]
    fn an_unlikely_sequence_that_became_likely_does_not_outweigh_the_others() {
        let found = gradient(&[-1.0, -1.0], &[-90.0, -90.0], &[-1.0, -1.0], &[1.0, 1.0]);
        assert_eq!(found, [1.5, 1.5]);
    }

    #[test]
    fn the_ratio_is_the_sequence_s_and_not_the_step_s() {
        // The steps' own ratios are e and 1/e; the sequence's is 1.
        let found = sequence_policy_gradient(
            &row(&[-1.0, -2.0]),
            &row(&[-2.0, -1.0]),
            &row(&[1.0, 1.0]),
            &row(&[1.0, 1.0]),
            0.2,
        );
        assert_eq!(found.clipped, 0.0);
        assert!((found.loss.double_value(&[]) + 1.0).abs() < 1e-6);
    }
}
