//! MiLoRA (arXiv 2406.09044): the adapter is W's minor part, so that training leaves the principal part alone.
//!
//! W = U Σ Vᵀ; A = √(Σ_r/s) V_rᵀ, B = U_r √(Σ_r/s) of the r smallest singular values, where s is the
//! adapter's scale, and the base becomes W − s·B A.

use super::{Given, Method, Needs, PlaceError, singular_part};
use crate::adapter::{Lora, Rank, Scaling};

/// The smallest singular values and their directions; has nothing to set.
#[derive(Clone, Copy, Debug)]
pub struct MiLora;

impl Method for MiLora {
    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn place(&self, site: &Given, rank: Rank, scaling: Scaling) -> Result<Lora, PlaceError> {
        singular_part(site, rank, scaling, |all| all - rank.get())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn what_stays_frozen_is_the_best_approximation_of_the_other_rank() {
        let weight = random([6, 9], 5);
        let given = Given { weight: &weight, moments: None, gradient: None };
        let lora = MiLora.place(&given, rank(2), SCALING).unwrap();
        assert_close(&product(&lora), &truncated(&weight, 4, 6), 1e-6);
        assert_close(&(&weight - product(&lora)), &truncated(&weight, 0, 4), 1e-6);
    }
}
