//! PiSSA (arXiv 2404.02948): the adapter is W's principal part, and what stays frozen is the rest.
//!
//! W = U Σ Vᵀ; A = √(Σ_r/s) V_rᵀ, B = U_r √(Σ_r/s), where s is the adapter's scale, and the base becomes
//! W − s·B A. As PEFT's `pissa`, which computes in f32.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decomposition::{SiteError, singular_part};
use super::method::WithDefaults;
use super::site_method::{SiteContext, SiteMethod};
use crate::adapter::{Lora, LoraOptions};

/// The largest singular values and their vectors; only the size can be set.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct PiSsa(pub LoraOptions);

impl WithDefaults for PiSsa {
    fn with_defaults(lora: LoraOptions, _: usize) -> Self {
        Self(lora)
    }
}

impl SiteMethod for PiSsa {
    fn name(&self) -> String {
        "PiSSA".to_owned()
    }

    fn lora(&self) -> &LoraOptions {
        &self.0
    }

    fn init(&self, site: &SiteContext) -> Result<Lora, SiteError> {
        singular_part(site.weight, &self.0, |_| 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn the_product_is_the_best_approximation_and_its_halves_are_balanced() {
        let weight = random([6, 9], 5);
        let given = SiteContext { weight: &weight, moments: None, gradient: None };
        let lora = PiSsa(size(3)).init(&given).unwrap();
        assert_close(&product(&lora), &truncated(&weight, 0, 3), 1e-6);
        let (rows, columns) = (lora.down.matmul(&lora.down.tr()), lora.up.tr().matmul(&lora.up));
        assert_close(&rows, &columns, 1e-6); // both are Σ_r / s
    }
}
