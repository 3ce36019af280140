//! OLoRA (arXiv 2406.01775): the adapter is a part of W with orthonormal columns in B.
//!
//! W = Q R; B = Q_r, A = R_r, and the base becomes W − s·B A, where s is the adapter's scale. As PEFT's
//! `olora` for a linear layer; for GPT-2's Conv1D, whose weight is turned, PEFT decomposes Wᵀ and fails.

use tch::Tensor;

use super::{Given, Method, Needs, PlaceError, adapter, check_directions, exact};
use crate::adapter::{Lora, Rank, Scaling};

/// The first columns of Q and rows of R; has nothing to set.
#[derive(Clone, Copy, Debug)]
pub struct OLora;

impl Method for OLora {
    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn place(&self, site: &Given, rank: Rank, scaling: Scaling) -> Result<Lora, PlaceError> {
        check_directions(site.weight, rank.get())?;
        let (q, r) = Tensor::linalg_qr(&exact(site.weight)?, "reduced"); // [out, k], [k, in]
        let (down, up) = (r.narrow(0, 0, rank.get()), q.narrow(1, 0, rank.get()));
        Ok(adapter(&down, &up, scaling.scale(rank.get()), site.weight).starting_here())
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
        let given = Given { weight: &weight, moments: None, gradient: None };
        let lora = OLora.place(&given, rank(3), SCALING).unwrap();
        assert_close(&lora.up.tr().matmul(&lora.up), &Tensor::eye(3, (Kind::Float, Device::Cpu)), 1e-6);
        assert_close(&(product(&lora) / lora.scale).narrow(1, 0, 3), &weight.narrow(1, 0, 3), 1e-6);
    }
}
