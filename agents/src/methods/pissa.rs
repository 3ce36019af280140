//! PiSSA (arXiv 2404.02948): the adapter is W's principal part, and what stays frozen is the rest.
//!
//! W = U Σ Vᵀ; A = √(Σ_r/s) V_rᵀ, B = U_r √(Σ_r/s), where s is the adapter's scale, and the base becomes
//! W − s·B A. As PEFT's `pissa`, which computes in f32.

use super::{Given, Method, Needs, PlaceError, singular_part};
use crate::adapter::{Lora, Rank, Scaling};

/// The largest singular values and their directions; has nothing to set.
#[derive(Clone, Copy, Debug)]
pub struct PiSsa;

impl Method for PiSsa {
    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn place(&self, site: &Given, rank: Rank, scaling: Scaling) -> Result<Lora, PlaceError> {
        singular_part(site, rank, scaling, |_| 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn the_product_is_the_best_approximation_and_its_halves_are_balanced() {
        let weight = random([6, 9], 5);
        let given = Given { weight: &weight, moments: None, gradient: None };
        let lora = PiSsa.place(&given, rank(3), SCALING).unwrap();
        assert_close(&product(&lora), &truncated(&weight, 0, 3), 1e-6);
        let (rows, columns) = (lora.down.matmul(&lora.down.tr()), lora.up.tr().matmul(&lora.up));
        assert_close(&rows, &columns, 1e-6); // both are Σ_r / s
    }
}
