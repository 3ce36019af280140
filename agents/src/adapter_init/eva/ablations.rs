//! EVA's ablations (arXiv 2410.07170, Table 25): A initialised without its components.

use tch::{Kind, Tensor};

use crate::pca::orthonormal;

/// The same span with other axes: `[R, in]` → `[R, in]`, a random rotation of the rows.
pub(super) fn rotated(basis: &Tensor) -> Tensor {
    let (rank, _) = basis.size2().expect("a matrix");
    let noise = Tensor::randn([rank, rank], (Kind::Double, basis.device()));
    orthonormal(&noise).matmul(basis)
}

/// The same entries of each input feature, permuted among the components: `[R, in]` → `[R, in]`.
pub(super) fn permuted(basis: &Tensor) -> Tensor {
    let order = basis.rand_like().argsort(0, false); // [R, in]
    basis.gather(0, &order, false)
}

/// LoRA's own initialisation in the same shape, uniform within ±1/√in: `[R, in]` → `[R, in]`.
pub(super) fn random(basis: &Tensor) -> Tensor {
    let (_, width) = basis.size2().expect("a matrix");
    let bound = 1.0 / (width as f64).sqrt();
    basis.empty_like().uniform_(-bound, bound)
}
