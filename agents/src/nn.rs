//! The layers that a decision transformer is made of, in the orientations that its files keep.

use tch::Tensor;

/// GPT-2's linear map, which keeps its weight as `[in, out]`.
#[derive(Debug)]
pub struct Conv1d {
    /// `[in, out]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Tensor,
}

impl Conv1d {
    /// `[…, in]` → `[…, out]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight.tr(), Some(&self.bias))
    }
}

/// A linear map that keeps its weight as `[out, in]`.
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Tensor,
}

impl Linear {
    /// `[…, in]` → `[…, out]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }
}

/// Layer normalisation over the last axis.
#[derive(Debug)]
pub struct LayerNorm {
    /// `[D]`.
    pub weight: Tensor,
    /// `[D]`.
    pub bias: Tensor,
    /// Added to the variance.
    pub epsilon: f64,
}

impl LayerNorm {
    /// `[…, D]` → `[…, D]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let width = self.weight.size();
        x.layer_norm(width, Some(&self.weight), Some(&self.bias), self.epsilon, false)
    }
}
