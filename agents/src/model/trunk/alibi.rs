//! Attention with linear biases (ALiBi, arXiv 2108.12409): a score falls with the distance between query and key.

use tch::{Device, Tensor};

/// How fast each head's scores fall.
#[derive(Debug)]
pub struct Alibi {
    /// `[H]`.
    slopes: Tensor,
}

impl Alibi {
    /// The paper's slopes of `heads` heads: powers of 2^(−8/n) for a power of two n; otherwise those of the power of
    /// two below, and then every other one of those above.
    pub fn new(heads: i64, device: Device) -> Self {
        let below = 1 << (63 - heads.max(1).leading_zeros()); // the greatest power of two up to `heads`
        let mut slopes = powers(below);
        slopes.extend(powers(2 * below).into_iter().step_by(2));
        slopes.truncate(heads as usize);
        Self { slopes: Tensor::from_slice(&slopes).to_device(device) }
    }

    /// What is added to attention scores, `bias` `[…, 1, Q, K]`, with the heads' own biases of `distances`
    /// `[Q, K]` or `[…, 1, Q, K]` between query and key: `[…, H, Q, K]`.
    pub fn add_to(&self, bias: &Tensor, distances: &Tensor) -> Tensor {
        bias - self.slopes.view([-1, 1, 1]) * distances
    }

    /// The same of whole windows, `bias` `[B, 1, K, K]`: `[B, H, K, K]`.
    pub fn of_windows(&self, bias: &Tensor) -> Tensor {
        let places = Tensor::arange(bias.size()[3], (self.slopes.kind(), bias.device())); // [K]
        self.add_to(bias, &(places.unsqueeze(1) - &places).clamp_min(0.0))
    }
}

/// 2^(−8k/n) for k = 1..n.
fn powers(n: i64) -> Vec<f32> {
    (1..=n).map(|k| (-8.0 * k as f64 / n as f64).exp2() as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slopes that the paper's own `get_slopes` gives.
    #[track_caller]
    fn check(heads: i64, expected: &[f32]) {
        let slopes = Alibi::new(heads, Device::Cpu).slopes;
        assert_eq!(Vec::<f32>::try_from(slopes).unwrap(), expected);
    }

    #[test]
    fn slopes_are_the_paper_s_for_any_number_of_heads() {
        check(1, &[2f32.powi(-8)]);
        check(2, &[2f32.powi(-4), 2f32.powi(-8)]);
        check(3, &[2f32.powi(-4), 2f32.powi(-8), 2f32.powi(-2)]);
        check(4, &[0.25, 0.0625, 0.015625, 0.00390625]);
        check(6, &[0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]);
    }
}
