//! Eigenvectors, orthonormal columns, and signs that do not depend on the machine.

use tch::Tensor;

/// Directions as rows, each with its largest entry positive: `[C, width]`.
pub(super) fn canonical_signs(basis: &Tensor) -> Tensor {
    let (_, peak) = basis.abs().max_dim(1, true); // [C, 1]
    basis * basis.gather(1, &peak, false).sign()
}

/// Leading eigenvalues `[count]` and eigenvectors `[count, width]` of a symmetric `matrix` `[width, width]`.
pub(super) fn leading_eigenvectors(matrix: &Tensor, count: i64) -> (Tensor, Tensor) {
    let (width, _) = matrix.size2().expect("a matrix");
    let (values, vectors) = matrix.linalg_eigh("L"); // ascending
    let values = values.narrow(0, width - count, count).flip([0]).clamp_min(0.0);
    (values, canonical_signs(&vectors.narrow(1, width - count, count).flip([1]).tr()))
}

/// Orthonormal columns that span those of `x`: `[width, S]` → `[width, S]`.
pub(crate) fn orthonormal(x: &Tensor) -> Tensor {
    let (q, _) = Tensor::linalg_qr(x, "reduced");
    q
}
