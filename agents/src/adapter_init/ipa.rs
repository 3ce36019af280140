//! IPA (arXiv 2509.04398): A projects the inputs onto the directions in which they are largest, and B = 0.
//!
//! E[x xᵀ] = Q Λ Qᵀ; A = the leading columns of Q as rows. The moments are about zero, as a map without a
//! bias sees its inputs; the authors' incremental mode takes each batch's mean off, which is EVA's A at equal ranks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::decomposition::{SiteError, adapter, exact};
use super::method::WithDefaults;
use super::site_method::{Requires, SiteContext, SiteMethod};
use crate::adapter::{Lora, LoraOptions};

/// The principal components of the inputs.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ipa {
    /// Size of the adapters.
    pub lora: LoraOptions,
    /// Batches of the data over which moments are taken.
    #[schemars(range(min = 1))]
    pub batches: usize,
    /// Whether A is frozen; the paper has both.
    pub frozen: bool,
}

impl WithDefaults for Ipa {
    fn with_defaults(lora: LoraOptions, _: usize) -> Self {
        Self { lora, batches: 16, frozen: false }
    }
}

impl SiteMethod for Ipa {
    fn name(&self) -> String {
        (if self.frozen { "IPA, A frozen" } else { "IPA" }).to_owned()
    }

    fn lora(&self) -> &LoraOptions {
        &self.lora
    }

    fn requires(&self) -> Requires {
        Requires::Moments(self.batches)
    }

    fn init(&self, site: &SiteContext) -> Result<Lora, SiteError> {
        let rank = self.lora.rank.get();
        let (output, input) = site.weight.size2().expect("a weight is a matrix");
        if rank > input {
            return Err(SiteError::TooFewComponents { wanted: rank, found: input, input, output });
        }
        let (_, vectors) = exact(site.moments.expect("IPA is given moments"))?.linalg_eigh("L"); // ascending
        let down = vectors.narrow(1, input - rank, rank).flip([1i64]).tr(); // [R, in]
        let up = Tensor::zeros([output, rank], (Kind::Double, down.device()));
        let lora = adapter(&down, &up, self.lora.scale(), site.weight);
        Ok(Lora { down: lora.down.detach().set_requires_grad(!self.frozen), ..lora })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn a_holds_the_singular_directions_of_the_inputs_and_is_trained_if_asked() {
        let (weight, x) = (random([6, 9], 5), random([50, 9], 6).to_kind(Kind::Double));
        let moments = x.tr().matmul(&x) / 50.0;
        let given = SiteContext { weight: &weight, moments: Some(&moments), gradient: None };
        let (_, _, v) = x.svd(true, true);
        for frozen in [true, false] {
            let lora = Ipa { lora: size(3), batches: 1, frozen }.init(&given).unwrap();
            let cosines = lora.down.detach().to_kind(Kind::Double).matmul(&v.narrow(1, 0, 3)); // [3, 3]
            assert_close(&cosines.abs(), &Tensor::eye(3, (Kind::Double, tch::Device::Cpu)), 1e-6);
            assert_eq!((lora.down.requires_grad(), lora.up.requires_grad()), (!frozen, true));
        }
    }
}
