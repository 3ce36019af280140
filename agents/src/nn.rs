//! The layers that a decision transformer is made of, in the orientations that its files keep.

use tch::{Device, Tensor};

/// Rows from which changing layouts for oneDNN pays.
const ONEDNN_ROWS: i64 = 512;

/// A linear map.
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`, or `[in, out]` where `fan_in_fan_out`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Tensor,
    /// Whether the weight is kept as GPT-2's Conv1D keeps it.
    pub fan_in_fan_out: bool,
}

impl Linear {
    /// The weight as `[out, in]`; shares storage with it.
    pub fn matrix(&self) -> Tensor {
        if self.fan_in_fan_out { self.weight.tr() } else { self.weight.shallow_clone() }
    }

    /// `[…, in]` → `[…, out]`.
    ///
    /// Many rows on a CPU go through oneDNN, whose products are as fast as MKL's on Intel and up to twice as
    /// fast on AMD; they change their layout on the way in and out.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let rows: i64 = x.size().iter().rev().skip(1).product();
        if x.device() != Device::Cpu || rows < ONEDNN_ROWS {
            return x.linear(&self.matrix(), Some(&self.bias));
        }
        let x = x.contiguous().g_to_mkldnn(None);
        x.mkldnn_linear(&self.matrix(), Some(&self.bias)).to_dense(None, false)
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
