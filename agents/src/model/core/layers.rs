//! The layers that policies are made of, in the orientations that their files keep.

use tch::{Kind, Tensor};

use crate::adapter::site::ModuleName;
use crate::tensor::{Patches, Rows};

/// Numbers of a 16-bit weight that are made f32 at a time: they stay in a core's cache.
const PIECE: i64 = 1 << 17;

/// Rows for which making all of a weight f32 at once takes no time beside its product.
const FEW_ROWS: i64 = 512;

/// A linear layer.
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`, or `[in, out]` where `fan_in_fan_out`; in 16 bits where its file keeps it so and nothing trains it.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Tensor,
    /// Whether the weight is kept as GPT-2's Conv1D keeps it.
    pub fan_in_fan_out: bool,
}

impl Linear {
    /// The weight as `[out, in]` in f32; shares storage with it where that is f32.
    pub fn matrix(&self) -> Tensor {
        self.matrix_in(Kind::Float)
    }

    /// The same in another kind.
    pub fn matrix_in(&self, kind: Kind) -> Tensor {
        self.kept_matrix().to_kind(kind)
    }

    /// The weight as `[out, in]`; shares storage with it.
    fn kept_matrix(&self) -> Tensor {
        if self.fan_in_fan_out { self.weight.tr() } else { self.weight.shallow_clone() }
    }

    /// `[…, in]` → `[…, out]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.shaped(&self.forward_rows(&Rows::of(x)), x)
    }

    /// The same of rows.
    pub fn forward_rows(&self, rows: &Rows) -> Rows {
        let matrix = self.kept_matrix(); // [out, in]
        let (outputs, inputs) = matrix.size2().expect("a weight is a matrix");
        if matrix.kind() == Kind::Float || rows.shape().0 >= FEW_ROWS {
            return rows.linear(&self.matrix(), &self.bias);
        }
        let mut done = Vec::new();
        let step = (PIECE / inputs).max(1);
        for first in (0..outputs).step_by(step as usize) {
            let length = step.min(outputs - first);
            let part = matrix.narrow(0, first, length).to_kind(Kind::Float); // [length, in]
            done.push(rows.dense().linear(&part, Some(&self.bias.narrow(0, first, length))));
        }
        Rows::of(&Tensor::cat(&done, -1))
    }

    /// The layer's outputs as rows, in the shape of its input `x` `[…, any]`: `[…, out]`.
    pub fn shaped(&self, outputs: &Rows, x: &Tensor) -> Tensor {
        let mut shape = x.size();
        *shape.last_mut().expect("an input has an axis") = self.bias.size()[0];
        outputs.dense().view(shape.as_slice())
    }
}

/// The rows of an embedding table `[…, N, D]` with these indices `[…]`, in f32: `[…, D]`.
pub fn look_up(table: &Tensor, indices: &Tensor) -> Tensor {
    Tensor::embedding(&table.flatten(0, -2), indices, -1, false, false).to_kind(Kind::Float)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_in_16_bits_is_that_of_its_numbers() {
        let options = (Kind::Float, tch::Device::Cpu);
        let (inputs, outputs) = (700, 301); // two pieces, the last one short
        for (rows, fan_in_fan_out) in [(3, false), (3, true), (FEW_ROWS, false)] {
            let shape = if fan_in_fan_out { [inputs, outputs] } else { [outputs, inputs] };
            let weight = Tensor::randn(shape, options).to_kind(Kind::BFloat16);
            let bias = Tensor::randn([outputs], options);
            let x = Tensor::randn([rows, inputs], options);
            let wide =
                Linear { weight: weight.to_kind(Kind::Float), bias: bias.shallow_clone(), fan_in_fan_out };
            let found = Linear { weight, bias, fan_in_fan_out }.forward(&x);
            assert!(found.allclose(&wide.forward(&x), 1e-5, 1e-4, false), "{rows} {fan_in_fan_out}");
        }
    }
}
