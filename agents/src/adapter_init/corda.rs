//! CorDA (arXiv 2406.05223): the adapter is the part of W that matters most, or least, for the data's inputs.
//!
//! C = E[x xᵀ] damped by a hundredth of its mean diagonal; W C = U Σ Vᵀ; W = U Σ (Vᵀ C⁻¹); A = √(Σ_r/s) (Vᵀ C⁻¹)_r,
//! B = U_r √(Σ_r/s), and the base becomes W − s·B A, where s is the adapter's scale. As PEFT's `corda`.
//!
//! PEFT sums a batch's x xᵀ and divides by the square of its largest input, which changes C by a factor: the
//! product B A is the same, and A and B share it out otherwise.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::decomposition::{SiteError, adapter, check_components, exact, split};
use super::method::WithDefaults;
use super::site_method::{Requires, SiteContext, SiteMethod};
use crate::adapter::{Lora, LoraOptions};

/// Share of the mean diagonal that is added to the diagonal, so that the moments have an inverse.
const DAMPING: f64 = 0.01;

/// The part of W that the data's inputs choose.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CorDa {
    /// Size of the adapters.
    pub lora: LoraOptions,
    /// Batches of the data over which moments are taken.
    #[schemars(range(min = 1))]
    pub batches: usize,
    /// Which components of the weights are adapted.
    pub mode: Mode,
}

/// Which part of W becomes the adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Instruction-previewed mode: the part that matters most for the data, to learn it fast.
    Ipm,
    /// Knowledge-preserved mode: the part that matters least for the data, to keep what the data stands for.
    Kpm,
}

impl WithDefaults for CorDa {
    fn with_defaults(lora: LoraOptions, _: usize) -> Self {
        Self { lora, batches: 16, mode: Mode::Ipm }
    }
}

impl SiteMethod for CorDa {
    fn name(&self) -> String {
        "CorDA".to_owned()
    }

    fn lora(&self) -> &LoraOptions {
        &self.lora
    }

    fn requires(&self) -> Requires {
        Requires::Moments(self.batches)
    }

    fn init(&self, site: &SiteContext) -> Result<Lora, SiteError> {
        let (rank, scale) = (self.lora.rank.get(), self.lora.scale());
        check_components(site.weight, rank)?;
        let moments = exact(site.moments.expect("CorDA is given moments"))?; // [in, in]
        let mean = moments.diag(0).mean(Kind::Double).double_value(&[]);
        // Inputs that are always zero tell no direction from another.
        let damping = if mean > 0.0 { mean * DAMPING } else { 1.0 };
        let moments = &moments + Tensor::eye(moments.size()[0], (Kind::Double, moments.device())) * damping;
        let (u, sigma, v) = exact(site.weight)?.matmul(&moments).svd(true, true);
        let v = moments.inverse().matmul(&v); // C is symmetric: (Vᵀ C⁻¹)ᵀ = C⁻¹ V
        let first = match self.mode {
            Mode::Ipm => 0,
            Mode::Kpm => sigma.size()[0] - rank,
        };
        let [u, sigma, v] = [u, sigma, v].map(|part| part.narrow(-1, first, rank));
        let (down, up) = split(&u, &(sigma / scale), &v);
        Ok(adapter(&down, &up, scale, site.weight).subtract_init())
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::super::testing::*;
    use super::super::{MiLora, PiSsa};
    use super::*;

    fn place(method: &dyn SiteMethod, moments: &Tensor) -> Tensor {
        let weight = random([6, 9], 5);
        let given = SiteContext { weight: &weight, moments: Some(moments), gradient: None };
        product(&method.init(&given).unwrap())
    }

    fn corda(mode: Mode) -> CorDa {
        CorDa { lora: size(3), batches: 1, mode }
    }

    #[test]
    fn inputs_without_direction_make_it_pissa_or_milora() {
        for spread in [0.0, 2.0] {
            let moments = Tensor::eye(9, (Kind::Double, Device::Cpu)) * spread;
            let part = |mode| place(&corda(mode), &moments);
            assert_close(&part(Mode::Ipm), &place(&PiSsa(size(3)), &moments), 1e-6);
            assert_close(&part(Mode::Kpm), &place(&MiLora(size(3)), &moments), 1e-6);
        }
    }

    #[test]
    fn the_previewed_mode_keeps_more_of_the_outputs_than_the_principal_part_does() {
        let x = random([200, 9], 6) * (Tensor::arange(9, (Kind::Float, Device::Cpu)) * -0.7).exp();
        let x = x.to_kind(Kind::Double);
        let moments = x.tr().matmul(&x) / 200.0;
        let weight = random([6, 9], 5).to_kind(Kind::Double);
        let lost = |product: &Tensor| {
            x.matmul(&(&weight - product).tr()).square().mean(Kind::Double).double_value(&[])
        };
        let ipm = lost(&place(&corda(Mode::Ipm), &moments));
        let kpm = lost(&place(&corda(Mode::Kpm), &moments));
        let principal = lost(&place(&PiSsa(size(3)), &moments));
        assert!(ipm < principal && principal < kpm, "{ipm} {principal} {kpm}");
    }

    #[test]
    fn the_size_of_the_inputs_does_not_change_the_product() {
        let x = random([40, 9], 6).to_kind(Kind::Double);
        let moments = x.tr().matmul(&x);
        let corda = corda(Mode::Ipm);
        assert_close(&place(&corda, &moments), &place(&corda, &(&moments * 1e-3)), 1e-6);
    }
}
