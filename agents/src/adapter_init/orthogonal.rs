//! Random orthonormal rows in A and B = 0: what EVA has, without what it takes from the data.
//!
//! The rows span a uniformly random subspace: those of Qᵀ where a matrix of normal numbers is Q R (Stewart 1980).
//! PEFT's `orthogonal` is another: A and B are both random, of half the rank each, such that B A = 0.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::decomposition::SiteError;
use super::method::WithDefaults;
use super::site_method::{SiteContext, SiteMethod};
use crate::adapter::{self, Lora, LoraOptions};
use crate::pca::orthonormal;

/// A with random orthonormal rows and B zero; only the size can be set.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Orthogonal(pub LoraOptions);

impl WithDefaults for Orthogonal {
    fn with_defaults(lora: LoraOptions, _: usize) -> Self {
        Self(lora)
    }
}

impl SiteMethod for Orthogonal {
    fn name(&self) -> String {
        "orthogonal LoRA".to_owned()
    }

    fn lora(&self) -> &LoraOptions {
        &self.0
    }

    fn init(&self, site: &SiteContext) -> Result<Lora, SiteError> {
        let (output, input) = site.weight.size2().expect("a weight is a matrix");
        let rank = self.0.rank.get();
        if rank > input {
            return Err(SiteError::TooFewComponents { wanted: rank, found: input, input, output });
        }
        let noise = Tensor::randn([input, rank], (Kind::Double, site.weight.device()));
        let down = orthonormal(&noise).tr().to_kind(Kind::Float).contiguous(); // [R, in]
        Ok(adapter::from_down(down, output, self.0.scale()))
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::super::testing::*;
    use super::*;

    #[test]
    fn a_has_orthonormal_rows_and_the_product_is_zero() {
        let weight = random([3, 9], 5);
        let given = SiteContext { weight: &weight, moments: None, gradient: None };
        let lora = Orthogonal(size(4)).init(&given).unwrap(); // a rank above the number of outputs
        assert_close(&lora.down.matmul(&lora.down.tr()), &Tensor::eye(4, (Kind::Float, Device::Cpu)), 1e-6);
        assert_eq!(lora.up, Tensor::zeros([3, 4], (Kind::Float, Device::Cpu)));
        let again = Orthogonal(size(4)).init(&given).unwrap();
        assert_ne!(lora.down, again.down);
        let wide = SiteError::TooFewComponents { wanted: 10, found: 9, input: 9, output: 3 };
        assert_eq!(Orthogonal(size(10)).init(&given).unwrap_err(), wide);
    }
}
