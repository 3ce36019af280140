//! Nearly the exact directions of wide rows, from products with a thin test matrix.
//!
//! Single-pass Nyström (Tropp, Yurtsever, Udell and Cevher 2017, arXiv 1706.05736): of the scatter S only
//! Y = S Ω is kept, and S ≈ Y (Ωᵀ Y)⁺ Yᵀ. Their Ω is random; ours spans the leading directions of the first
//! batch, found by a few rounds of subspace iteration, so that a few spare columns suffice.

use tch::{Kind, Tensor};

use super::sums::{Sums, TestMatrix, shift_for, square_sum};
use super::{NotFinite, Rows, Solver, Spectrum, leading_eigenvectors, orthonormal, with_fixed_signs};

/// Rounds of subspace iteration on the first batch.
const ROUNDS: usize = 2;

/// Rows of the first batch that they look at, drawn at random: so many in all, or so many a column.
const START_ROWS: i64 = 1024;
const START_ROWS_A_COLUMN: i64 = 32;

/// Eigenvalues of Ωᵀ S Ω below this share of the largest are rounding.
const NEGLIGIBLE: f64 = 1e-10;

/// The scatter of rows seen through a thin test matrix.
#[derive(Debug)]
pub struct Sketch {
    components: i64,
    centred: bool,
    columns: i64,
    started: Option<Started>,
    batches: usize,
    halves: [Sums; 2],
}

/// What the first batch decides.
#[derive(Debug)]
struct Started {
    /// What rows are summed about.
    shift: Option<Tensor>,
    /// Ω, whose columns are orthonormal, in the rows' precision.
    test: TestMatrix,
}

impl Sketch {
    /// Nothing seen yet; gives `components` directions of rows of `width` numbers, at most `width`.
    pub fn new(components: i64, width: i64, centred: bool, device: tch::Device) -> Self {
        let components = components.min(width);
        let columns = Self::columns(components).min(width);
        let halves = [(), ()].map(|()| Sums::zero(columns, width, device));
        Self { components, centred, columns, started: None, batches: 0, halves }
    }

    /// Columns of the test matrix for so many components: with the column of ones that it gets, a multiple of
    /// eight.
    pub fn columns(components: i64) -> i64 {
        (components + components / 4 + 4) / 8 * 8 + 7
    }

    /// The test matrix for rows like these.
    fn start(&self, rows: &Rows) -> Result<Started, NotFinite> {
        let (count, width) = rows.shape();
        let (kind, device) = (rows.dense().kind(), rows.dense().device());
        square_sum(rows)?; // a test matrix of NaN would go unnoticed
        let shift = if self.centred { shift_for(rows)? } else { None };
        let nothing = Tensor::zeros([self.columns], (kind, device));
        let enough = START_ROWS.max(START_ROWS_A_COLUMN * self.columns).min(count);
        let index = Tensor::randperm(count, (Kind::Int64, device)).narrow(0, 0, enough); // [M]
        let some = rows.dense().index_select(0, &index); // [M, width]
        let some = if self.centred { &some - some.mean_dim(0, false, kind) } else { some };
        let some = Rows::of(&some);
        let mut test = orthonormal(&Tensor::randn([width, self.columns], (kind, device))).tr(); // [S, width]
        for _ in 0..ROUNDS {
            test = orthonormal(&some.sketched_gram(&test.contiguous(), &nothing).tr()).tr();
        }
        Ok(Started { shift, test: TestMatrix::new(&test) })
    }

    /// ΩᵀS and the trace of S: `test` `[S, width]` → `[S, width]`.
    fn scatter(&self, sums: &Sums, test: &Tensor) -> (Tensor, f64) {
        if self.centred {
            return sums.about_the_mean(Some(test));
        }
        (sums.products.shallow_clone(), sums.squares)
    }

    /// F `[S, width]` whose FᵀF is the scatter as the sketch has it, and the exact trace.
    fn factor(&self, sums: &Sums) -> (Tensor, f64) {
        let test = &self.started.as_ref().expect("rows were seen").test.exact(); // [S, width]
        let (sketched, total) = self.scatter(sums, test);
        let core = sketched.matmul(&test.tr()); // [S, S], Ωᵀ S Ω
        let (values, vectors) = ((&core + core.tr()) * 0.5).linalg_eigh("L");
        let least = values.max().double_value(&[]) * NEGLIGIBLE;
        let roots = values.clamp_min(least).rsqrt() * values.gt(least).to_kind(Kind::Double); // [S]
        (vectors.tr().matmul(&sketched) * roots.nan_to_num(0.0, 0.0, 0.0).unsqueeze(1), total)
    }
}

impl Solver for Sketch {
    fn update(&mut self, rows: &Rows) -> Result<(), NotFinite> {
        if self.started.is_none() {
            self.started = Some(self.start(rows)?);
        }
        let Started { shift, test } = self.started.as_ref().expect("it was started");
        let half = &mut self.halves[self.batches % 2];
        match shift {
            Some(shift) => half.add_sketched(&Rows::of(&(rows.dense() - shift)), test)?,
            None => half.add_sketched(rows, test)?,
        }
        self.batches += 1;
        Ok(())
    }

    fn rows(&self) -> i64 {
        self.halves[0].rows + self.halves[1].rows
    }

    fn spectrum(&self) -> Spectrum {
        let (factor, total) = self.factor(&self.halves[0].plus(&self.halves[1]));
        let (_, singular_values, directions) = factor.svd(true, true); // directions are columns
        // A half's directions from the smaller FFᵀ, which is cheap.
        let of_half = |half: &Sums| {
            let (factor, _) = self.factor(half);
            let (values, vectors) = leading_eigenvectors(&factor.matmul(&factor.tr()), self.components);
            vectors.matmul(&factor) / values.sqrt().clamp_min(f64::MIN_POSITIVE).unsqueeze(1) // [C, width]
        };
        let [even, odd] = &self.halves;
        let both = even.rows.min(odd.rows) >= self.components;
        Spectrum {
            basis: with_fixed_signs(&directions.narrow(1, 0, self.components).tr()),
            scatter: singular_values.narrow(0, 0, self.components).square(),
            total,
            rows: self.rows(),
            halves: both.then(|| [even, odd].map(of_half)),
        }
    }
}
