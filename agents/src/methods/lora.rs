//! LoRA (arXiv 2106.09685): A uniform within ±1/√in, as Kaiming et al. with a = √5, and B = 0.

use super::{Given, Method, Needs, PlaceError};
use crate::adapter::{self, Lora, Rank, Scaling};

/// A random and B zero; has nothing to set.
#[derive(Clone, Copy, Debug)]
pub struct PlainLora;

impl Method for PlainLora {
    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn place(&self, site: &Given, rank: Rank, scaling: Scaling) -> Result<Lora, PlaceError> {
        let (output, input) = site.weight.size2().expect("a weight is a matrix");
        Ok(adapter::lora(input, output, rank, scaling, site.weight.device()))
    }
}
