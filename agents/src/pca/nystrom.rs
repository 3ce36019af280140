//! Nearly the exact directions of wide rows, from products with a thin test matrix.
//!
//! Single-pass Nyström (Tropp, Yurtsever, Udell and Cevher 2017, arXiv 1706.05736): of the scatter S only
//! Y = S Ω is kept, and S ≈ Y (Ωᵀ Y)⁺ Yᵀ. Their Ω is random; ours spans the leading directions of the first
//! rows, found by a few rounds of subspace iteration, so that a few spare columns suffice.

use tch::{Kind, Tensor};

use super::linalg::{canonical_signs, leading_eigenvectors, orthonormal};
use super::moments::{Moments, NotFinite, TestMatrix, shift_for, square_sum};
use super::solver::{Solver, Spectrum};
use super::split_moments::SplitMoments;
use crate::ranks::Ranks;
use crate::tensor::Rows;

/// Rounds of subspace iteration on the first rows.
const ROUNDS: usize = 2;

/// Rows among those that they look at, drawn at random: so many in all, or so many a column.
const START_ROWS: i64 = 1024;
const START_ROWS_A_COLUMN: i64 = 32;

/// Eigenvalues of Ωᵀ S Ω below this share of the largest are rounding.
const NEGLIGIBLE: f64 = 1e-10;

/// The scatter of rows seen through a thin test matrix.
#[derive(Debug)]
pub struct NystromSketch {
    components: i64,
    centred: bool,
    halves: SplitMoments,
}

impl NystromSketch {
    /// Nothing seen yet; gives `components` directions of rows of `width` numbers, at most `width`.
    pub fn new(components: i64, width: i64, centred: bool) -> Self {
        Self { components: components.min(width), centred, halves: SplitMoments::default() }
    }

    /// Columns of the test matrix for so many components: with the column of ones that it gets, a multiple of
    /// eight.
    pub fn columns(components: i64) -> i64 {
        (components + components / 4 + 4) / 8 * 8 + 7
    }

    /// F `[S, width]` whose FᵀF is the scatter as the sketch has it, and the exact trace.
    fn factor(&self, sums: &Moments) -> (Tensor, f64) {
        let test = sums.test(); // [S, width]
        let (sketched, total) = sums.scatter(self.centred); // [S, width]
        let core = sketched.matmul(&test.tr()); // [S, S], Ωᵀ S Ω
        let (values, vectors) = ((&core + core.tr()) * 0.5).linalg_eigh("L");
        let least = values.max().double_value(&[]) * NEGLIGIBLE;
        let roots = values.clamp_min(least).rsqrt() * values.gt(least).to_kind(Kind::Double); // [S]
        (vectors.tr().matmul(&sketched) * roots.nan_to_num(0.0, 0.0, 0.0).unsqueeze(1), total)
    }
}

/// Moments through a test matrix with orthonormal columns, for rows like these.
fn start(rows: &Rows, components: i64, centred: bool) -> Result<Moments, NotFinite> {
    let (count, width) = rows.shape();
    let (kind, device) = (rows.dense().kind(), rows.dense().device());
    square_sum(rows)?; // a test matrix of NaN would go unnoticed
    let shift = if centred { shift_for(rows)? } else { None };
    let columns = NystromSketch::columns(components).min(width);
    let nothing = Tensor::zeros([columns], (kind, device));
    let enough = START_ROWS.max(START_ROWS_A_COLUMN * columns).min(count);
    let index = Tensor::randperm(count, (Kind::Int64, device)).narrow(0, 0, enough); // [M]
    let some = rows.dense().index_select(0, &index); // [M, width]
    let some = if centred { &some - some.mean_dim(0, false, kind) } else { some };
    let some = Rows::of(&some);
    let mut test = orthonormal(&Tensor::randn([width, columns], (kind, device))).tr(); // [S, width]
    for _ in 0..ROUNDS {
        test = orthonormal(&some.sketched_gram(&test.contiguous(), &nothing).tr()).tr();
    }
    Ok(Moments::zero(rows, shift, Some(TestMatrix::new(&test))))
}

impl Solver for NystromSketch {
    fn update(&mut self, rows: &Rows) -> Result<(), NotFinite> {
        let (components, centred) = (self.components, self.centred);
        self.halves.add(rows, || start(rows, components, centred))
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
        let (factor, total) = self.factor(&self.halves.whole());
        let (_, singular_values, directions) = factor.svd(true, true); // directions are columns
        // A half's directions from the smaller FFᵀ, which is cheap.
        let of_half = |half: &Moments| {
            let (factor, _) = self.factor(half);
            let (values, vectors) = leading_eigenvectors(&factor.matmul(&factor.tr()), self.components);
            vectors.matmul(&factor) / values.sqrt().clamp_min(f64::MIN_POSITIVE).unsqueeze(1) // [C, width]
        };
        Spectrum {
            basis: canonical_signs(&directions.narrow(1, 0, self.components).tr()),
            scatter: singular_values.narrow(0, 0, self.components).square(),
            total,
            rows: self.rows(),
            halves: self.halves.each(self.components, of_half),
        }
    }
}
