//! How an adapter moves: angles between spans of rows, and the rank that an update uses.

use tch::{Kind, Tensor};

use crate::pca::orthonormal;

/// The angle, in degrees, whose squared sine is the mean of those of the principal angles (Björck and Golub 1973)
/// between the spans of the rows of two matrices: `[R, in]` each.
pub fn angle_between(first: &Tensor, second: &Tensor) -> f64 {
    let (rank, _) = first.size2().expect("a matrix");
    let squares = span(first).tr().matmul(&span(second)).square(); // [R, R]
    let shared = squares.sum(Kind::Double).double_value(&[]); // Σ cos²
    (1.0 - shared / rank as f64).clamp(0.0, 1.0).sqrt().asin().to_degrees()
}

/// The share of a matrix's squared norm that lies in the span of `rows`: `[out, in]`, `[R, in]`; 0 of a matrix of zeros.
/// Of rows at random it is R / in.
pub fn share_within(matrix: &Tensor, rows: &Tensor) -> f64 {
    let matrix = matrix.detach().to_kind(Kind::Double);
    let energy = |x: &Tensor| x.square().sum(Kind::Double).double_value(&[]);
    let whole = energy(&matrix);
    if whole > 0.0 { energy(&matrix.matmul(&span(rows))) / whole } else { 0.0 }
}

/// The exponential of the entropy of a matrix's singular values, as shares of their sum (Roy and Vetterli 2007):
/// `[out, in]`; 0 of a matrix of zeros.
pub fn effective_rank(matrix: &Tensor) -> f64 {
    let (_, values, _) = matrix.detach().to_kind(Kind::Double).svd(true, false); // [min(out, in)]
    let sum = values.sum(Kind::Double).double_value(&[]);
    if sum == 0.0 {
        return 0.0;
    }
    let shares = values / sum;
    let entropy = -shares.xlogy(&shares).sum(Kind::Double).double_value(&[]);
    entropy.exp()
}

/// Orthonormal columns that span some rows, in f64: `[R, in]` → `[in, R]`.
fn span(rows: &Tensor) -> Tensor {
    orthonormal(&rows.detach().to_kind(Kind::Double).tr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_are_of_spans_and_not_of_rows() {
        let first = Tensor::from_slice2(&[[1.0f32, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]);
        let same = Tensor::from_slice2(&[[2.0f32, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]);
        let turned = Tensor::from_slice2(&[[1.0f32, 0.0, 1.0, 0.0], [0.0, 3.0, 0.0, 3.0]]);
        let other = Tensor::from_slice2(&[[0.0f32, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]);
        for (rows, expected) in [(same, 0.0), (turned, 45.0), (other, 90.0)] {
            let found = angle_between(&first, &rows);
            assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
        }
    }

    #[test]
    fn a_share_is_of_the_squared_norm() {
        let matrix = Tensor::from_slice2(&[[3.0f32, 0.0, 4.0], [0.0, 0.0, 0.0]]);
        let rows = Tensor::from_slice2(&[[2.0f32, 0.0, 0.0]]);
        assert!((share_within(&matrix, &rows) - 9.0 / 25.0).abs() < 1e-12);
        assert_eq!(share_within(&matrix.zeros_like(), &rows), 0.0);
    }

    #[test]
    fn a_rank_counts_directions_by_their_size() {
        let of = |values: &[f64]| effective_rank(&Tensor::from_slice(values).diag(0));
        assert!((of(&[2.0, 2.0, 2.0, 0.0]) - 3.0).abs() < 1e-9);
        assert!((of(&[1.0, 0.0, 0.0]) - 1.0).abs() < 1e-9);
        let entropy = -(0.75f64 * 0.75f64.ln() + 0.25 * 0.25f64.ln());
        assert!((of(&[3.0, 1.0]) - entropy.exp()).abs() < 1e-9);
        assert_eq!(of(&[0.0, 0.0]), 0.0);
    }
}
