//! Images: the convolutions of the DQN of Mnih et al. 2015, which the Atari decision transformer reads its frames by.

use tch::{Kind, Tensor};

use crate::model::core::forward::ForwardContext;
use crate::model::core::layers::{Convolution, Module};

/// Convolutions, each followed by max(0, x), and a linear layer of all that they leave.
#[derive(Debug)]
pub struct ImageEncoder {
    /// From the pixels on.
    pub convolutions: Vec<Convolution>,
    /// To the residual stream: channels · height · width → D.
    pub projection: Module,
}

impl ImageEncoder {
    /// Frames of bytes `[B, T, C, H, W]` → `[B, T, D]`.
    pub fn forward(&self, context: &mut ForwardContext, frames: &Tensor) -> Tensor {
        let shape = frames.size();
        let mut x = frames.flatten(0, 1).to_kind(Kind::Float) / 255.0; // [B·T, C, H, W]
        for convolution in &self.convolutions {
            x = context.convolve(convolution, &x).relu();
        }
        let x = context.project(&self.projection, &x.flatten(1, -1)); // [B·T, D]
        x.view([shape[0], shape[1], -1])
    }
}
