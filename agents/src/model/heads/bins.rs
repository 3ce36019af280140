//! Numbers in [−1, 1] as one of evenly spaced bins, the first at −1 and the last at 1.

use tch::{Kind, Tensor};

/// The action head's outputs, a row of logits a dimension: `[…, A · bins]` → `[…, A, bins]`.
pub fn split(head: &Tensor, act_dim: i64) -> Tensor {
    let mut shape = head.size();
    shape.pop();
    shape.extend([act_dim, -1]);
    head.reshape(shape)
}

/// The nearest bin of each number: `[…]` → `[…]`, whole numbers.
pub fn nearest(numbers: &Tensor, bins: i64) -> Tensor {
    ((numbers.clamp(-1.0, 1.0) + 1.0) * ((bins - 1) as f64 / 2.0)).round().to_kind(Kind::Int64)
}

/// The numbers that bins stand for: `[…]`, whole numbers → `[…]`.
pub fn number(indices: &Tensor, bins: i64) -> Tensor {
    indices.to_kind(Kind::Float) * (2.0 / (bins - 1) as f64) - 1.0
}

/// The number of the most probable bin: `[…, bins]` → `[…]`.
pub fn mode(logits: &Tensor) -> Tensor {
    let bins = logits.size().pop().expect("logits have an axis of bins");
    number(&logits.argmax(-1, false), bins)
}

/// The mean number of bins drawn by their logits: `[…, bins]` → `[…]`.
pub fn mean(logits: &Tensor) -> Tensor {
    let bins = logits.size().pop().expect("logits have an axis of bins");
    let numbers = number(&Tensor::arange(bins, (Kind::Int64, logits.device())), bins); // [bins]
    (logits.softmax(-1, Kind::Float) * numbers).sum_dim_intlist(-1, false, Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_s_own_number_falls_into_it_and_the_bounds_are_exact() {
        for bins in [2, 3, 64, 256] {
            let indices = Tensor::arange(bins, (Kind::Int64, tch::Device::Cpu));
            let numbers = number(&indices, bins);
            assert_eq!(nearest(&numbers, bins), indices);
            assert_eq!(numbers.min().double_value(&[]), -1.0);
            assert_eq!(numbers.max().double_value(&[]), 1.0);
        }
    }

    #[test]
    fn a_mean_lies_between_its_bins() {
        let logits = Tensor::from_slice(&[0.0f32, f32::NEG_INFINITY, 3f32.ln()]); // 1/4 at −1, 3/4 at 1
        assert!((mean(&logits).double_value(&[]) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn numbers_outside_fall_into_the_outermost_bins() {
        assert_eq!(nearest(&Tensor::from_slice(&[-3.0f32, 7.0]), 5), Tensor::from_slice(&[0i64, 4]));
    }
}
