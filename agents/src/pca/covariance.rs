//! The exact directions: the covariance of all rows, one product per batch and one eigendecomposition.

use tch::{Kind, Tensor};

use super::linalg::{canonical_signs, leading_eigenvectors, orthonormal};
use super::moments::{Moments, NotFinite, shift_for};
use super::nystrom::NystromSketch;
use super::solver::{Solver, Spectrum};
use super::split_moments::SplitMoments;
use crate::ranks::Ranks;
use crate::tensor::Rows;

/// Rounds of subspace iteration from the whole's directions to a half's.
const ROUNDS: usize = 2;

/// Which end of the spectrum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The directions of most variance.
    Leading,
    /// Those of least, the least first: EVA's control of minor components.
    Minor,
}

/// Σ x xᵀ over the rows, centred or not.
#[derive(Debug)]
pub struct Covariance {
    components: i64,
    centred: bool,
    end: End,
    halves: SplitMoments,
}

impl Covariance {
    /// Nothing seen yet; gives `components` directions of rows of `width` numbers, at most `width`.
    pub fn new(components: i64, width: i64, centred: bool, end: End) -> Self {
        Self { components: components.min(width), centred, end, halves: SplitMoments::default() }
    }

    /// Mean of x xᵀ over all rows, about zero if not centred: `[width, width]`; at least one was seen.
    pub fn moments(&self) -> Tensor {
        let sums = self.halves.whole();
        sums.scatter(self.centred).0 / sums.rows() as f64
    }

    /// The wanted end of the eigenvalues and of the eigenvectors: `scatter` `[width, width]` → `[count]`,
    /// `[count, width]`.
    fn directions(&self, scatter: &Tensor, count: i64) -> (Tensor, Tensor) {
        match self.end {
            End::Leading => leading_eigenvectors(scatter, count),
            End::Minor => {
                let (values, vectors) = scatter.linalg_eigh("L"); // ascending
                let vectors = vectors.narrow(1, 0, count).tr();
                (values.narrow(0, 0, count).clamp_min(0.0), canonical_signs(&vectors))
            }
        }
    }
}

impl Solver for Covariance {
    fn update(&mut self, rows: &Rows) -> Result<(), NotFinite> {
        let centred = self.centred;
        self.halves.add(rows, || {
            let shift = if centred { shift_for(rows)? } else { None };
            Ok(Moments::zero(rows, shift, None))
        })
    }

    fn halves(&mut self) -> Option<&mut [Moments; 2]> {
        self.halves.started_mut()
    }

    fn forget(&mut self) {
        self.halves.forget();
    }

    fn share(&mut self, ranks: &dyn Ranks) {
        self.halves.share(ranks);
    }

    fn rows(&self) -> i64 {
        self.halves.rows()
    }

    fn spectrum(&self) -> Spectrum {
        let (scatter, total) = self.halves.whole().scatter(self.centred);
        let width = scatter.size()[0];
        let (values, wider) = self.directions(&scatter, NystromSketch::columns(self.components).min(width));
        let of_half = |half: &Moments| {
            let (scatter, _) = half.scatter(self.centred);
            match self.end {
                End::Leading => subspace_iteration(&scatter, &wider, self.components),
                End::Minor => self.directions(&scatter, self.components).1,
            }
        };
        Spectrum {
            basis: wider.narrow(0, 0, self.components),
            scatter: values.narrow(0, 0, self.components),
            total,
            rows: self.rows(),
            halves: self.halves.each(self.components, of_half),
        }
    }
}

/// Leading directions `[count, width]` of a symmetric `matrix` `[width, width]` that lie near the span of
/// `wider` `[S, width]`: a few rounds of subspace iteration reach what it misses. In float32, which tells
/// halves apart well enough.
fn subspace_iteration(matrix: &Tensor, wider: &Tensor, count: i64) -> Tensor {
    let (matrix, mut span) = (matrix.to_kind(Kind::Float), wider.tr().to_kind(Kind::Float)); // [width, S]
    for _ in 0..ROUNDS {
        span = orthonormal(&matrix.matmul(&span));
    }
    let core = span.tr().matmul(&matrix.matmul(&span)); // [S, S]
    let (_, vectors) = core.linalg_eigh("L"); // ascending
    let (columns, _) = core.size2().expect("a matrix");
    vectors.narrow(1, columns - count, count).flip([1]).tr().matmul(&span.tr()).to_kind(Kind::Double)
}
