//! OLoRA (arXiv 2406.01775): the adapter is a part of W with orthonormal columns in B.
//!
//! W = Q R; B = Q_r, A = R_r, and the base becomes W − s·B A, where s is the adapter's scale. As PEFT's
//! `olora` for a linear layer; for GPT-2's Conv1D, whose weight is turned, PEFT decomposes Wᵀ and fails.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::decomposition::{SiteError, adapter, check_components, exact};
use super::method::WithDefaults;
use super::site_method::{SiteContext, SiteMethod};
use crate::adapter::{Lora, LoraOptions};

/// The first columns of Q and rows of R; only the size can be set.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct OLora(pub LoraOptions);

impl WithDefaults for OLora {
    fn with_defaults(lora: LoraOptions, _: usize) -> Self {
        Self(lora)
    }
}

impl SiteMethod for OLora {
    fn name(&self) -> String {
        "OLoRA".to_owned()
    }

    fn lora(&self) -> &LoraOptions {
        &self.0
    }

    fn init(&self, site: &SiteContext) -> Result<Lora, SiteError> {
        let rank = self.0.rank.get();
        check_components(site.weight, rank)?;
        let (q, r) = Tensor::linalg_qr(&exact(site.weight)?, "reduced"); // [out, k], [k, in]
        let (down, up) = (r.narrow(0, 0, rank), q.narrow(1, 0, rank));
        Ok(adapter(&down, &up, self.0.scale(), site.weight).subtract_init())
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::super::testing::*;
    use super::*;

    #[test]
    fn b_is_orthonormal_and_the_first_columns_of_w_are_whole_in_the_product() {
        let weight = random([6, 9], 5);
        let given = SiteContext { weight: &weight, moments: None, gradient: None };
        let lora = OLora(size(3)).init(&given).unwrap();
        assert_close(&lora.up.tr().matmul(&lora.up), &Tensor::eye(3, (Kind::Float, Device::Cpu)), 1e-6);
        assert_close(&(product(&lora) / lora.scale).narrow(1, 0, 3), &weight.narrow(1, 0, 3), 1e-6);
    }
}
