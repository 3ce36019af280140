//! Rows of numbers, in the layouts that their readers want.

use tch::{Device, Kind, Tensor};

/// Rows from which changing layouts for oneDNN pays.
const WORTH_PACKING: i64 = 512;

/// A matrix of rows that several products read.
///
/// Many rows on a CPU are also kept in oneDNN's layout, whose products are up to twice as fast as MKL's on AMD;
/// they are converted once, for the linear map that they go through and for EVA.
#[derive(Debug)]
pub struct Rows {
    /// `[N, width]`.
    dense: Tensor,
    /// The same in oneDNN's layout.
    packed: Option<Tensor>,
}

impl Rows {
    /// The rows of `x` `[…, width]`.
    pub fn of(x: &Tensor) -> Self {
        let dense = x.flatten(0, -2); // [N, width]
        let suits = dense.device() == Device::Cpu && dense.kind() == Kind::Float;
        let packed =
            (suits && dense.size()[0] >= WORTH_PACKING).then(|| dense.contiguous().g_to_mkldnn(None));
        Self { dense, packed }
    }

    /// `[N, width]`.
    pub fn dense(&self) -> &Tensor {
        &self.dense
    }

    /// N and the width.
    pub fn shape(&self) -> (i64, i64) {
        self.dense.size2().expect("rows are a matrix")
    }

    /// These rows alone: `index` `[M]`.
    pub fn select(&self, index: &Tensor) -> Self {
        Self::of(&self.dense.index_select(0, index))
    }

    /// `x Wᵀ + b`: `weight` `[out, width]`, `bias` `[out]` → `[N, out]`.
    pub fn linear(&self, weight: &Tensor, bias: &Tensor) -> Tensor {
        match &self.packed {
            Some(packed) => packed.mkldnn_linear(weight, Some(bias)).to_dense(None, false),
            None => self.dense.linear(weight, Some(bias)),
        }
    }

    /// `xᵀ x` and `Σ x`: `[width, width]`, `[width]`.
    pub fn gram(&self) -> (Tensor, Tensor) {
        let (_, width) = self.shape();
        match &self.packed {
            Some(packed) => packed_product(packed, packed, width, width),
            None => {
                (self.dense.tr().matmul(&self.dense), self.dense.sum_dim_intlist(0, false, self.dense.kind()))
            }
        }
    }

    /// `zᵀ x` where `z = x Wᵀ + b`: `weight` `[S, width]`, `bias` `[S]` → `[S, width]`.
    pub fn sketched_gram(&self, weight: &Tensor, bias: &Tensor) -> Tensor {
        let ((_, width), columns) = (self.shape(), weight.size()[0]);
        match &self.packed {
            Some(packed) => {
                packed_product(&packed.mkldnn_linear(weight, Some(bias)), packed, columns, width).0
            }
            None => self.dense.linear(weight, Some(bias)).tr().matmul(&self.dense),
        }
    }
}

/// `aᵀ b` and `Σ a` in oneDNN, which calls them the gradients of a weight and a bias: `[N, P]`, `[N, Q]` →
/// `[P, Q]`, `[P]`.
fn packed_product(a: &Tensor, b: &Tensor, p: i64, q: i64) -> (Tensor, Tensor) {
    let shape = Tensor::empty([p, q], (Kind::Float, Device::Cpu));
    let (product, sum) = b.mkldnn_linear_backward_weights(a, &shape, true);
    let dense = |x: Tensor| if x.is_mkldnn() { x.to_dense(None, false) } else { x };
    (dense(product), dense(sum))
}
