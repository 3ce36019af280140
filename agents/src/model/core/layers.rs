//! The layers that policies are made of, in the orientations that their files keep.

use tch::Tensor;

use crate::adapter::site::ModuleName;
use crate::tensor::{Patches, Rows};

/// A linear layer.
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
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.shaped(&self.forward_rows(&Rows::of(x)), x)
    }

    /// The same of rows.
    pub fn forward_rows(&self, rows: &Rows) -> Rows {
        rows.linear(&self.matrix(), &self.bias)
    }

    /// The layer's outputs as rows, in the shape of its input `x` `[…, any]`: `[…, out]`.
    pub fn shaped(&self, outputs: &Rows, x: &Tensor) -> Tensor {
        let mut shape = x.size();
        *shape.last_mut().expect("an input has an axis") = self.bias.size()[0];
        outputs.dense().view(shape.as_slice())
    }
}

/// A linear layer of a policy, with the name by which adapters and taps know it.
#[derive(Debug)]
pub struct Module {
    /// Its name in the policy's files.
    pub name: ModuleName,
    /// The frozen layer.
    pub linear: Linear,
}

/// A convolution, with the name by which adapters and taps know it.
#[derive(Debug)]
pub struct Convolution {
    /// Its name in the policy's files.
    pub name: ModuleName,
    /// `[out, C, height, width]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Tensor,
    /// In both directions.
    pub stride: i64,
    /// Zeros at each border.
    pub padding: i64,
}

impl Convolution {
    /// The weight as a map of patches, `[out, in]` with in = C·height·width; shares storage with it.
    pub fn matrix(&self) -> Tensor {
        self.weight.flatten(1, -1)
    }

    /// What it reads of `images` `[N, C, H, W]`.
    pub fn patches(&self, images: &Tensor) -> Patches {
        let (_, _, height, width) = self.weight.size4().expect("a kernel is [out, C, height, width]");
        Patches::of(&images.constant_pad_nd([self.padding; 4]), [height, width], self.stride)
    }

    /// `[N, C, H, W]` → `[N, out, H', W']`.
    pub fn forward(&self, images: &Tensor) -> Tensor {
        images.conv2d(&self.weight, Some(&self.bias), self.stride, self.padding, 1, 1)
    }

    /// The same by another map of patches `[out, in]`, with or without the bias.
    pub fn forward_by(&self, matrix: &Tensor, bias: Option<&Tensor>, images: &Tensor) -> Tensor {
        images.conv2d(&matrix.view_as(&self.weight), bias, self.stride, self.padding, 1, 1)
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
