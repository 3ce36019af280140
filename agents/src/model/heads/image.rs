//! The next image, from the trunk's outputs.

use tch::Tensor;

use crate::model::core::forward::ForwardContext;
use crate::model::core::layers::Module;
use crate::model::encoders::{Gate, normalised_leaky};

/// JAT's decoder of images `[4, 84, 84]`.
#[derive(Debug)]
pub struct ImageDecoder {
    /// D → 128 · 11 · 11.
    pub projection: Module,
    /// Transposed convolutions, weight `[in, out, 3, 3]` and bias `[out]`, each of which doubles the sides.
    pub convolutions: [(Tensor, Tensor); 3],
    /// Behind the first two.
    pub gates: [Gate; 2],
}

impl ImageDecoder {
    /// `[B, T, D]` → `[B, T, 4, 84, 84]`, from −1 to 1.
    pub fn forward(&self, context: &mut ForwardContext, x: &Tensor) -> Tensor {
        let (batch, steps, _) = x.size3().expect("outputs are [B, T, D]");
        let widen = |x: &Tensor, (weight, bias): &(Tensor, Tensor)| {
            x.conv_transpose2d(weight, Some(bias), 2, 1, 1, 1, 1)
        };
        let x = context.project(&self.projection, x).view([batch * steps, -1, 11, 11]);
        let x = normalised_leaky(&widen(&x, &self.convolutions[0])); // [N, 64, 22, 22]
        let x = x.upsample_nearest2d([21, 21], None, None);
        let x = self.gates[0].forward(context, &x);
        let x = normalised_leaky(&widen(&x, &self.convolutions[1])); // [N, 32, 42, 42]
        let x = self.gates[1].forward(context, &x);
        widen(&x, &self.convolutions[2]).tanh().view([batch, steps, -1, 84, 84])
    }
}
