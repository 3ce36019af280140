//! Squeeze-and-excitation (arXiv 1709.01507): channels scaled by what all of them hold on average.

use tch::{Kind, Tensor};

use crate::model::core::forward::ForwardContext;
use crate::model::core::layers::Module;

/// Added to the variance of a channel.
const EPSILON: f64 = 1e-5;

/// Scales channels.
#[derive(Debug)]
pub struct Gate {
    /// C → C / 8, before max(0, x).
    pub squeeze: Module,
    /// C / 8 → C, before the sigmoid.
    pub excite: Module,
}

impl Gate {
    /// `[N, C, H, W]` → `[N, C, H, W]`.
    pub fn forward(&self, context: &mut ForwardContext, x: &Tensor) -> Tensor {
        let mean = x.mean_dim([2i64, 3].as_slice(), false, Kind::Float); // [N, C]
        let inner = context.project(&self.squeeze, &mean).relu();
        let scale = context.project(&self.excite, &inner).sigmoid(); // [N, C]
        x * scale.unsqueeze(-1).unsqueeze(-1)
    }
}

/// Each channel of each image to mean 0 and deviation 1, and then leaky ReLU: `[N, C, H, W]` → `[N, C, H, W]`.
pub fn normalised_leaky(x: &Tensor) -> Tensor {
    let none = || None::<Tensor>;
    Tensor::instance_norm(x, none(), none(), none(), none(), true, 0.0, EPSILON, false).leaky_relu()
}
