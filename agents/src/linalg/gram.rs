//! The exact directions: the covariance of all rows, one product a batch and one eigendecomposition.

use tch::Tensor;

use super::sums::{Sums, shift_for};
use super::{NotFinite, Rows, Sketch, Solver, Spectrum, leading_eigenvectors, with_fixed_signs};

/// Which end of the spectrum is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The directions of most variance.
    Leading,
    /// Those of least, the least first: EVA's control of minor components.
    Trailing,
}

/// Σ x xᵀ over the rows, centred or not.
#[derive(Debug)]
pub struct Gram {
    components: i64,
    centred: bool,
    end: End,
    /// What rows are summed about, decided by the first batch.
    shift: Option<Option<Tensor>>,
    batches: usize,
    halves: [Sums; 2],
}

impl Gram {
    /// Nothing seen yet; gives `components` directions of rows of `width` numbers, at most `width`.
    pub fn new(components: i64, width: i64, centred: bool, end: End, device: tch::Device) -> Self {
        let halves = [(), ()].map(|()| Sums::zero(width, width, device));
        Self { components: components.min(width), centred, end, shift: None, batches: 0, halves }
    }

    /// Mean of x xᵀ over all rows, about zero if not centred: `[width, width]`.
    pub fn moments(&self) -> Tensor {
        let sums = self.halves[0].plus(&self.halves[1]);
        self.scatter(&sums).0 / sums.rows as f64
    }

    /// The scatter `[width, width]` and its trace.
    fn scatter(&self, sums: &Sums) -> (Tensor, f64) {
        if self.centred {
            return sums.about_the_mean(None);
        }
        (sums.products.shallow_clone(), sums.squares)
    }

    /// The wanted end of the eigenvalues and of the eigenvectors: `scatter` `[width, width]` → `[count]`,
    /// `[count, width]`.
    fn directions(&self, scatter: &Tensor, count: i64) -> (Tensor, Tensor) {
        match self.end {
            End::Leading => leading_eigenvectors(scatter, count),
            End::Trailing => {
                let (values, vectors) = scatter.linalg_eigh("L"); // ascending
                let vectors = vectors.narrow(1, 0, count).tr();
                (values.narrow(0, 0, count).clamp_min(0.0), with_fixed_signs(&vectors))
            }
        }
    }
}

impl Solver for Gram {
    fn update(&mut self, rows: &Rows) -> Result<(), NotFinite> {
        if self.shift.is_none() {
            self.shift = Some(if self.centred { shift_for(rows)? } else { None });
        }
        let shift = self.shift.as_ref().and_then(Option::as_ref);
        let half = &mut self.halves[self.batches % 2];
        match shift {
            Some(shift) => half.add(&Rows::of(&(rows.dense() - shift)), None)?,
            None => half.add(rows, None)?,
        }
        self.batches += 1;
        Ok(())
    }

    fn rows(&self) -> i64 {
        self.halves[0].rows + self.halves[1].rows
    }

    fn spectrum(&self) -> Spectrum {
        let (scatter, total) = self.scatter(&self.halves[0].plus(&self.halves[1]));
        let width = scatter.size()[0];
        let (values, wider) = self.directions(&scatter, Sketch::columns(self.components).min(width));
        // Halves are told apart within a somewhat wider span of the whole's, which is cheap.
        let within = |half: &Sums| {
            let core = wider.matmul(&self.scatter(half).0).matmul(&wider.tr()); // [S, S]
            self.directions(&core, self.components).1.matmul(&wider) // [C, width]
        };
        let [even, odd] = &self.halves;
        let both = even.rows.min(odd.rows) >= self.components;
        Spectrum {
            basis: wider.narrow(0, 0, self.components),
            scatter: values.narrow(0, 0, self.components),
            total,
            rows: self.rows(),
            halves: both.then(|| [even, odd].map(within)),
        }
    }
}
