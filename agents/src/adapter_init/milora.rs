//! MiLoRA (arXiv 2406.09044): the adapter is W's minor part, so that training leaves the principal part alone.
//!
//! W = U Σ Vᵀ; A = √(Σ_r/s) V_rᵀ, B = U_r √(Σ_r/s) of the r smallest singular values, where s is the
//! adapter's scale, and the base becomes W − s·B A.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decomposition::{SiteError, singular_part};
use super::method::WithDefaults;
use super::site_method::{SiteContext, SiteMethod};
use crate::adapter::{Lora, LoraOptions};

/// The smallest singular values and their vectors; only the size can be set.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct MiLora(pub LoraOptions);

impl WithDefaults for MiLora {
    fn with_defaults(lora: LoraOptions, _: usize) -> Self {
        Self(lora)
    }
}

impl SiteMethod for MiLora {
    fn name(&self) -> String {
        "MiLoRA".to_owned()
    }

    fn lora(&self) -> &LoraOptions {
        &self.0
    }

    fn init(&self, site: &SiteContext) -> Result<Lora, SiteError> {
        singular_part(site.weight, &self.0, |all| all - self.0.rank.get())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn what_stays_frozen_is_the_best_approximation_of_the_other_rank() {
        let weight = random([6, 9], 5);
        let given = SiteContext { weight: &weight, moments: None, gradient: None };
        let lora = MiLora(size(2)).init(&given).unwrap();
        assert_close(&product(&lora), &truncated(&weight, 4, 6), 1e-6);
        assert_close(&(&weight - product(&lora)), &truncated(&weight, 0, 4), 1e-6);
    }
}
