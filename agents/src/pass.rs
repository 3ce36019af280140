//! What one forward pass carries besides its input: adapters, a tap on activations, the train flag.

use tch::Tensor;

use crate::adapter::AdapterSet;
use crate::nn::Conv1d;
use crate::site::Site;

/// Sees the input activations of every site during a pass.
pub trait Tap {
    /// `x` is the input of `site`'s linear map: `[B, K, in]`.
    fn record(&mut self, site: Site, x: &Tensor);
}

/// A tap that looks at nothing.
#[derive(Debug)]
pub struct NoTap;

impl Tap for NoTap {
    fn record(&mut self, _: Site, _: &Tensor) {}
}

/// What one forward pass carries besides its input.
pub struct Pass<'a> {
    /// Adapters to add to the frozen maps.
    pub adapters: &'a AdapterSet,
    /// Who sees the sites' inputs.
    pub tap: &'a mut dyn Tap,
    /// Whether dropout is on.
    pub train: bool,
}

impl Pass<'_> {
    /// The frozen map, plus its adapter's share if it has one: `[B, K, in]` → `[B, K, out]`.
    pub fn project(&mut self, site: Site, frozen: &Conv1d, x: &Tensor) -> Tensor {
        self.tap.record(site, x);
        let y = frozen.forward(x);
        match self.adapters.get(site) {
            Some(lora) if self.adapters.dropout > 0.0 => {
                y + lora.forward(&x.dropout(self.adapters.dropout, self.train))
            }
            Some(lora) => y + lora.forward(x),
            None => y,
        }
    }
}
