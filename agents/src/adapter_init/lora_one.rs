//! LoRA-One (arXiv 2502.01235): the adapter is one step of full fine-tuning, cut to its rank.
//!
//! −G = U Σ Vᵀ of the loss's gradient; A = √(Σ_r/(σ₁ γ)) V_rᵀ, B = U_r √(Σ_r/(σ₁ γ)). The base is not shifted,
//! so the policy begins a step away from the pretrained one. As a third party's
//! copy of the authors' code has it, without the preconditioner, which belongs to the optimiser.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decomposition::{SiteError, adapter, check_components, split, svd};
use super::method::WithDefaults;
use super::site_method::{Requires, SiteContext, SiteMethod};
use crate::adapter::{Lora, LoraOptions};

/// The best approximation of one step of gradient descent.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoraOne {
    /// Size of the adapters.
    pub lora: LoraOptions,
    /// Batches whose gradients are averaged.
    #[schemars(range(min = 1))]
    pub batches: usize,
    /// The step's largest singular value is the adapter's scale over this: γ.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub gamma: f64,
}

impl WithDefaults for LoraOne {
    fn with_defaults(lora: LoraOptions, _: usize) -> Self {
        Self { lora, batches: 8, gamma: 128.0 }
    }
}

impl SiteMethod for LoraOne {
    fn name(&self) -> String {
        "LoRA-One".to_owned()
    }

    fn lora(&self) -> &LoraOptions {
        &self.lora
    }

    fn requires(&self) -> Requires {
        Requires::Gradients(self.batches)
    }

    fn init(&self, site: &SiteContext) -> Result<Lora, SiteError> {
        let rank = self.lora.rank.get();
        check_components(site.weight, rank)?;
        let (u, sigma, v) = svd(&-site.gradient.expect("LoRA-One is given a gradient"))?;
        // A site that no loss reaches has σ₁ = 0, and is initialised at zero.
        let largest = sigma.get(0).clamp_min(f64::MIN_POSITIVE);
        let [u, sigma, v] = [u, sigma, v].map(|part| part.narrow(-1, 0, rank));
        let (down, up) = split(&u, &(sigma / (largest * self.gamma)), &v);
        Ok(adapter(&down, &up, self.lora.scale(), site.weight))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn the_product_is_the_best_approximation_of_a_step_down_the_gradient() {
        let (weight, gradient) = (random([7, 9], 5), random([7, 9], 6));
        let given = SiteContext { weight: &weight, moments: None, gradient: Some(&gradient) };
        let lora = LoraOne { lora: size(3), batches: 1, gamma: 32.0 }.init(&given).unwrap();
        let (_, sigma, _) = svd(&gradient).unwrap();
        let step = truncated(&gradient, 0, 3) * (-lora.scale / 32.0) / sigma.get(0);
        assert_close(&product(&lora), &step, 1e-7);
    }

    #[test]
    fn a_gradient_of_zero_gives_an_adapter_of_zero() {
        let weight = random([7, 9], 5);
        let gradient = weight.zeros_like();
        let given = SiteContext { weight: &weight, moments: None, gradient: Some(&gradient) };
        assert_changes_nothing(&LoraOne { lora: size(3), batches: 1, gamma: 128.0 }.init(&given).unwrap());
    }
}
