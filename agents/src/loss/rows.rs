//! Rows of real steps, of which losses take their means.

use tch::Tensor;

/// Rows of real steps: `[B, T, …]` → `[N, …]`.
pub(super) fn real_rows(x: &Tensor, mask: &Tensor) -> Tensor {
    let rows = mask.flatten(0, -1).nonzero().squeeze_dim(-1);
    x.flatten(0, 1).index_select(0, &rows)
}
