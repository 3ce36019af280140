//! Rows of numbers, in the layouts that their readers want.

use std::cell::OnceCell;

use tch::{Device, Kind, Tensor};

/// Rows from which changing layouts for oneDNN pays.
const WORTH_PACKING: i64 = 512;

/// A matrix of rows that several products read.
///
/// Many rows on a CPU go through oneDNN, whose products are up to twice as fast as MKL's on AMD. Each of the
/// two layouts is made when it is first asked for, and kept.
#[derive(Debug)]
pub struct Rows {
    /// `[N, width]`.
    dense: OnceCell<Tensor>,
    /// The same in oneDNN's layout.
    packed: OnceCell<Tensor>,
    packs: bool,
}

impl Rows {
    /// The rows of `x` `[…, width]`.
    pub fn of(x: &Tensor) -> Self {
        let dense = x.flatten(0, -2); // [N, width]
        let suits = dense.device() == Device::Cpu && dense.kind() == Kind::Float;
        let packs = suits && dense.size()[0] >= WORTH_PACKING;
        Self { dense: OnceCell::from(dense), packed: OnceCell::new(), packs }
    }

    /// The rows of `x` `[…, width]`, which stay in libtorch's layout: changing it does not pay where nothing but one
    /// product reads it.
    pub fn plain(x: &Tensor) -> Self {
        Self { packs: false, ..Self::of(x) }
    }

    /// Rows `[N, width]` that are in oneDNN's layout already.
    fn of_packed(packed: Tensor) -> Self {
        Self { dense: OnceCell::new(), packed: OnceCell::from(packed), packs: true }
    }

    /// `[N, width]`.
    pub fn dense(&self) -> &Tensor {
        self.dense.get_or_init(|| {
            let packed = self.packed.get().expect("rows have at least one layout");
            packed.to_dense(None, false)
        })
    }

    /// `[N, width]` in oneDNN's layout, where the rows are many and on a CPU.
    pub fn packed(&self) -> Option<&Tensor> {
        self.packs.then(|| self.packed.get_or_init(|| self.dense().contiguous().g_to_mkldnn(None)))
    }

    /// N and the width.
    pub fn shape(&self) -> (i64, i64) {
        let either = self.dense.get().or(self.packed.get()).expect("rows have at least one layout");
        either.size2().expect("rows are a matrix")
    }

    /// The same rows, out of autograd's sight; shares storage with these.
    pub fn detach(&self) -> Self {
        let detached =
            |layout: &OnceCell<Tensor>| layout.get().map_or_else(OnceCell::new, |x| x.detach().into());
        Self { dense: detached(&self.dense), packed: detached(&self.packed), packs: self.packs }
    }

    /// These rows alone: `index` `[M]`.
    pub fn select(&self, index: &Tensor) -> Self {
        Self::of(&self.dense().index_select(0, index))
    }

    /// The positive part of every number, in the layout that is at hand.
    pub fn relu(&self) -> Self {
        match self.packed.get() {
            Some(packed) => Self::of_packed(packed.relu()),
            None => Self::of(&self.dense().relu()),
        }
    }

    /// `x Wᵀ + b`: `weight` `[out, width]`, `bias` `[out]` → `[N, out]`.
    pub fn linear(&self, weight: &Tensor, bias: &Tensor) -> Self {
        match self.packed() {
            Some(packed) => Self::of_packed(packed.mkldnn_linear(weight, Some(bias))),
            None => Self::of(&self.dense().linear(weight, Some(bias))),
        }
    }

    /// `xᵀ x` and `Σ x`: `[width, width]`, `[width]`.
    pub fn gram(&self) -> (Tensor, Tensor) {
        let (_, width) = self.shape();
        match self.packed() {
            Some(packed) => packed_product(packed, packed, width, width),
            None => {
                let x = self.dense(); // [N, width]
                (x.tr().matmul(x), x.sum_dim_intlist(0, false, x.kind()))
            }
        }
    }

    /// `zᵀ x` where `z = x Wᵀ + b`: `weight` `[S, width]`, `bias` `[S]` → `[S, width]`.
    pub fn sketched_gram(&self, weight: &Tensor, bias: &Tensor) -> Tensor {
        let ((_, width), columns) = (self.shape(), weight.size()[0]);
        match self.packed() {
            Some(packed) => {
                packed_product(&packed.mkldnn_linear(weight, Some(bias)), packed, columns, width).0
            }
            None => self.dense().linear(weight, Some(bias)).tr().matmul(self.dense()),
        }
    }
}

/// `x Aᵀ` of rows in oneDNN's layout: `x` `[N, width]`, `down` `[R, width]` → `[N, R]`.
pub fn low_rank_product(x: &Tensor, down: &Tensor) -> Tensor {
    x.mkldnn_linear(down, None::<Tensor>).to_dense(None, false)
}

/// `aᵀ b` and `Σ a` in oneDNN, which calls them the gradients of a weight and a bias: `[N, P]`, `[N, Q]` →
/// `[P, Q]`, `[P]`.
fn packed_product(a: &Tensor, b: &Tensor, p: i64, q: i64) -> (Tensor, Tensor) {
    let shape = Tensor::empty([p, q], (Kind::Float, Device::Cpu));
    let (product, sum) = b.mkldnn_linear_backward_weights(a, &shape, true);
    let dense = |x: Tensor| if x.is_mkldnn() { x.to_dense(None, false) } else { x };
    (dense(product), dense(sum))
}
