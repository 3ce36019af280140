//! LoRA-One (arXiv 2502.01235): the adapter is one step of full fine-tuning, cut to its rank.
//!
//! −G = U Σ Vᵀ of the loss's gradient; A = √(Σ_r/(σ₁ γ)) V_rᵀ, B = U_r √(Σ_r/(σ₁ γ)). The base is not shifted,
//! so the policy begins a step away from the pretrained one. As a third party's
//! copy of the authors' code has it, without the preconditioner, which belongs to the optimiser.

use super::{Given, Method, Needs, PlaceError, adapter, check_directions, split, svd};
use crate::adapter::{Lora, Rank, Scaling};

/// The best approximation of one step of gradient descent.
#[derive(Clone, Copy, Debug)]
pub struct LoraOne {
    /// The step's largest singular value is the adapter's scale over this: γ.
    pub gamma: f64,
}

impl Default for LoraOne {
    fn default() -> Self {
        Self { gamma: 128.0 }
    }
}

impl Method for LoraOne {
    fn needs(&self) -> Needs {
        Needs::Gradient
    }

    fn place(&self, site: &Given, rank: Rank, scaling: Scaling) -> Result<Lora, PlaceError> {
        check_directions(site.weight, rank.get())?;
        let (u, sigma, v) = svd(&-site.gradient.expect("LoRA-One is given a gradient"))?;
        // A site that no loss reaches has σ₁ = 0, and begins at zero.
        let largest = sigma.get(0).clamp_min(f64::MIN_POSITIVE);
        let [u, sigma, v] = [u, sigma, v].map(|part| part.narrow(-1, 0, rank.get()));
        let (down, up) = split(&u, &(sigma / (largest * self.gamma)), &v);
        Ok(adapter(&down, &up, scaling.scale(rank.get()), site.weight))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn the_product_is_the_best_approximation_of_a_step_down_the_gradient() {
        let (weight, gradient) = (random([7, 9], 5), random([7, 9], 6));
        let given = Given { weight: &weight, moments: None, gradient: Some(&gradient) };
        let lora = LoraOne { gamma: 32.0 }.place(&given, rank(3), SCALING).unwrap();
        let (_, sigma, _) = svd(&gradient).unwrap();
        let step = truncated(&gradient, 0, 3) * (-lora.scale / 32.0) / sigma.get(0);
        assert_close(&product(&lora), &step, 1e-7);
    }

    #[test]
    fn a_gradient_of_zero_gives_an_adapter_of_zero() {
        let weight = random([7, 9], 5);
        let gradient = weight.zeros_like();
        let given = Given { weight: &weight, moments: None, gradient: Some(&gradient) };
        assert_changes_nothing(&LoraOne::default().place(&given, rank(3), SCALING).unwrap());
    }
}
