//! LoRA-GA (arXiv 2407.05000): the adapter's first step is as near to full fine-tuning's as its rank allows.
//!
//! G = U Σ Vᵀ of the loss's gradient; A = V_{1..r}ᵀ, B = U_{r+1..2r} Σ_{r+1..2r} · out^¼ / √γ, and the base
//! becomes W − s·B A, where s is the adapter's scale. As PEFT's `lora_ga` with its defaults, direction `ArB2r`
//! and scale `stable`, for a linear layer; for GPT-2's Conv1D PEFT takes `in` for `out`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decomposition::{SiteError, adapter, check_components, svd};
use super::method::WithDefaults;
use super::site_method::{Requires, SiteContext, SiteMethod};
use crate::adapter::{Lora, LoraOptions};

/// The leading components of one full gradient.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoraGa {
    /// Size of the adapters.
    pub lora: LoraOptions,
    /// Batches whose gradients are averaged.
    #[schemars(range(min = 1))]
    pub batches: usize,
    /// Stability of the initial scale, γ: B's size falls with its root; PEFT's default is 16.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub gamma: f64,
}

impl WithDefaults for LoraGa {
    fn with_defaults(lora: LoraOptions, _: usize) -> Self {
        Self { lora, batches: 8, gamma: 16.0 }
    }
}

impl SiteMethod for LoraGa {
    fn name(&self) -> String {
        "LoRA-GA".to_owned()
    }

    fn lora(&self) -> &LoraOptions {
        &self.lora
    }

    fn components(&self) -> i64 {
        2 * self.lora.rank.get() // A and B take different ones
    }

    fn requires(&self) -> Requires {
        Requires::Gradients(self.batches)
    }

    fn init(&self, site: &SiteContext) -> Result<Lora, SiteError> {
        let rank = self.lora.rank.get();
        check_components(site.weight, 2 * rank)?;
        let (output, _) = site.weight.size2().expect("a weight is a matrix");
        let (u, sigma, v) = svd(site.gradient.expect("LoRA-GA is given a gradient"))?;
        let down = v.narrow(1, 0, rank).tr(); // [R, in]
        let size = (output as f64).powf(0.25) / self.gamma.sqrt();
        let up = u.narrow(1, rank, rank) * sigma.narrow(0, rank, rank) * size; // [out, R]
        Ok(adapter(&down, &up, self.lora.scale(), site.weight).subtract_init())
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::super::testing::*;
    use super::*;

    #[test]
    fn a_spans_the_gradient_s_leading_inputs_and_b_the_outputs_after_them() {
        let (weight, gradient) = (random([7, 9], 5), random([7, 9], 6));
        let given = SiteContext { weight: &weight, moments: None, gradient: Some(&gradient) };
        let lora = LoraGa { lora: size(3), batches: 1, gamma: 4.0 }.init(&given).unwrap();
        assert_close(&lora.down.matmul(&lora.down.tr()), &Tensor::eye(3, (Kind::Float, Device::Cpu)), 1e-6);
        // G's best rank-3 part lies in A's rows, and of B only the next three directions.
        let leading = truncated(&gradient, 0, 3).to_kind(Kind::Float);
        assert_close(&leading.matmul(&lora.down.tr()).matmul(&lora.down), &leading, 1e-5);
        let next = truncated(&gradient, 3, 6);
        let expected = next.matmul(&next.tr()) * (7f64.sqrt() / 4.0);
        let up = lora.up.detach().to_kind(Kind::Double);
        assert_close(&up.matmul(&up.tr()), &expected, 1e-6);
    }
}
