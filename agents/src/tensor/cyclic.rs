//! Rows that repeat until they fill a width.

use tch::{Kind, Tensor};

/// The numbers of `x` `[…, n]` over and over: `[…, width]`.
pub fn cyclic(x: &Tensor, width: i64) -> Tensor {
    let own = x.size().last().copied().unwrap_or(1).max(1);
    let index = Tensor::arange(width, (Kind::Int64, x.device())).remainder(own);
    x.index_select(-1, &index)
}
