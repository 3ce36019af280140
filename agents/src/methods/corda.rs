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

use super::{Given, Method, Needs, PlaceError, adapter, check_directions, exact, split};
use crate::adapter::{Lora, Rank, Scaling};

/// Share of the mean diagonal that is added to the diagonal, so that the moments have an inverse.
const DAMPING: f64 = 0.01;

/// The part of W that the data's inputs choose.
#[derive(Clone, Copy, Debug)]
pub struct CorDa {
    /// Which part.
    pub mode: Mode,
}

/// Which part of W becomes the adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The part that matters most for the data, to learn it fast: the paper's instruction-previewed mode.
    Preview,
    /// The part that matters least, to keep what the data stands for: its knowledge-preserved mode.
    Preserve,
}

impl Method for CorDa {
    fn needs(&self) -> Needs {
        Needs::Moments
    }

    fn place(&self, site: &Given, rank: Rank, scaling: Scaling) -> Result<Lora, PlaceError> {
        check_directions(site.weight, rank.get())?;
        let moments = exact(site.moments.expect("CorDA is given moments"))?; // [in, in]
        let mean = moments.diag(0).mean(Kind::Double).double_value(&[]);
        // Inputs that are always zero tell no direction from another.
        let damping = if mean > 0.0 { mean * DAMPING } else { 1.0 };
        let moments = &moments + Tensor::eye(moments.size()[0], (Kind::Double, moments.device())) * damping;
        let (u, sigma, v) = exact(site.weight)?.matmul(&moments).svd(true, true);
        let v = moments.inverse().matmul(&v); // C is symmetric: (Vᵀ C⁻¹)ᵀ = C⁻¹ V
        let first = match self.mode {
            Mode::Preview => 0,
            Mode::Preserve => sigma.size()[0] - rank.get(),
        };
        let [u, sigma, v] = [u, sigma, v].map(|part| part.narrow(-1, first, rank.get()));
        let scale = scaling.scale(rank.get());
        let (down, up) = split(&u, &(sigma / scale), &v);
        Ok(adapter(&down, &up, scale, site.weight).starting_here())
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::super::testing::*;
    use super::super::{MiLora, PiSsa};
    use super::*;

    fn place(method: &dyn Method, moments: &Tensor) -> Tensor {
        let weight = random([6, 9], 5);
        let given = Given { weight: &weight, moments: Some(moments), gradient: None };
        product(&method.place(&given, rank(3), SCALING).unwrap())
    }

    #[test]
    fn inputs_without_direction_make_it_pissa_or_milora() {
        for spread in [0.0, 2.0] {
            let moments = Tensor::eye(9, (Kind::Double, Device::Cpu)) * spread;
            let corda = |mode| place(&CorDa { mode }, &moments);
            assert_close(&corda(Mode::Preview), &place(&PiSsa, &moments), 1e-6);
            assert_close(&corda(Mode::Preserve), &place(&MiLora, &moments), 1e-6);
        }
    }

    #[test]
    fn the_preview_keeps_more_of_the_outputs_than_the_principal_part_does() {
        let x = random([200, 9], 6) * (Tensor::arange(9, (Kind::Float, Device::Cpu)) * -0.7).exp();
        let x = x.to_kind(Kind::Double);
        let moments = x.tr().matmul(&x) / 200.0;
        let weight = random([6, 9], 5).to_kind(Kind::Double);
        let lost = |product: &Tensor| {
            x.matmul(&(&weight - product).tr()).square().mean(Kind::Double).double_value(&[])
        };
        let preview = lost(&place(&CorDa { mode: Mode::Preview }, &moments));
        let preserve = lost(&place(&CorDa { mode: Mode::Preserve }, &moments));
        let principal = lost(&place(&PiSsa, &moments));
        assert!(preview < principal && principal < preserve, "{preview} {principal} {preserve}");
    }

    #[test]
    fn the_size_of_the_inputs_does_not_change_the_product() {
        let x = random([40, 9], 6).to_kind(Kind::Double);
        let moments = x.tr().matmul(&x);
        let corda = CorDa { mode: Mode::Preview };
        assert_close(&place(&corda, &moments), &place(&corda, &(&moments * 1e-3)), 1e-6);
    }
}
