//! IPA (arXiv 2509.04398): A projects the inputs onto the directions in which they are largest, and B = 0.
//!
//! E[x xᵀ] = Q Λ Qᵀ; A = the leading columns of Q as rows. The moments are about zero, as a map without a
//! bias sees its inputs; the authors' incremental mode takes each batch's mean off, which is EVA's A at equal ranks.

use tch::{Kind, Tensor};

use super::{Given, Method, Needs, PlaceError, adapter, exact};
use crate::adapter::{Lora, Rank, Scaling};

/// The principal directions of the inputs.
#[derive(Clone, Copy, Debug)]
pub struct Ipa {
    /// Whether training leaves A as it began; the paper has both.
    pub frozen: bool,
}

impl Method for Ipa {
    fn needs(&self) -> Needs {
        Needs::Moments
    }

    fn place(&self, site: &Given, rank: Rank, scaling: Scaling) -> Result<Lora, PlaceError> {
        let (output, input) = site.weight.size2().expect("a weight is a matrix");
        if rank.get() > input {
            let wanted = rank.get();
            return Err(PlaceError::TooFewDirections { wanted, found: input, input, output });
        }
        let (_, vectors) = exact(site.moments.expect("IPA is given moments"))?.linalg_eigh("L"); // ascending
        let down = vectors.narrow(1, input - rank.get(), rank.get()).flip([1i64]).tr(); // [R, in]
        let up = Tensor::zeros([output, rank.get()], (Kind::Double, down.device()));
        let lora = adapter(&down, &up, scaling.scale(rank.get()), site.weight);
        Ok(Lora { down: lora.down.detach().set_requires_grad(!self.frozen), ..lora })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn a_holds_the_singular_directions_of_the_inputs_and_is_trained_if_asked() {
        let (weight, x) = (random([6, 9], 5), random([50, 9], 6).to_kind(Kind::Double));
        let moments = x.tr().matmul(&x) / 50.0;
        let given = Given { weight: &weight, moments: Some(&moments), gradient: None };
        let (_, _, v) = x.svd(true, true);
        for frozen in [true, false] {
            let lora = Ipa { frozen }.place(&given, rank(3), SCALING).unwrap();
            let cosines = lora.down.detach().to_kind(Kind::Double).matmul(&v.narrow(1, 0, 3)); // [3, 3]
            assert_close(&cosines.abs(), &Tensor::eye(3, (Kind::Double, tch::Device::Cpu)), 1e-6);
            assert_eq!((lora.down.requires_grad(), lora.up.requires_grad()), (!frozen, true));
        }
    }
}
