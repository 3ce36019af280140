//! What a streaming solver is given, and what it answers.

use std::fmt;

use tch::Tensor;

use super::moments::{Moments, NotFinite};
use crate::ranks::Ranks;
use crate::tensor::Rows;

/// The leading directions of rows `[N, width]`, and the variance along each.
#[derive(Debug)]
pub struct Spectrum {
    /// Orthonormal directions, most variance first: `[C, width]`, f64.
    pub basis: Tensor,
    /// Sum of squares along each: `[C]`, f64.
    pub scatter: Tensor,
    /// Sum of squares in all directions.
    pub total: f64,
    /// N.
    pub rows: i64,
    /// Directions of each half of the data alone, `[C, width]`: two estimates that share no row.
    /// None where the solver keeps no halves, or one has fewer rows than directions.
    pub halves: Option<[Tensor; 2]>,
}

impl Spectrum {
    /// Share of the whole variance that each direction explains: `[C]`.
    pub fn explained_ratio(&self) -> Vec<f64> {
        if self.total <= 0.0 {
            return vec![0.0; self.scatter.numel()]; // constant rows have no variance to explain
        }
        Vec::try_from(&self.scatter / self.total).expect("ratios are float64")
    }

    /// Singular values of the (centred) rows: `[C]`.
    pub fn singular_values(&self) -> Vec<f64> {
        Vec::try_from(self.scatter.sqrt()).expect("singular values are float64")
    }
}

/// Finds the leading directions of rows that arrive in batches.
pub trait Solver: fmt::Debug + Send {
    /// Takes in a batch of rows, into the half of the data that has fewer where the solver keeps halves.
    fn update(&mut self, rows: &Rows) -> Result<(), NotFinite>;

    /// Both halves, once rows were seen: two threads may each add rows to one. None where the solver keeps none.
    fn halves(&mut self) -> Option<&mut [Moments; 2]>;

    /// Forgets the rows that only this rank has seen, where the solver keeps halves.
    fn forget(&mut self) {}

    /// Every rank knows the rows of all from here on, where the solver keeps halves; all have begun with the same rows.
    fn share(&mut self, _: &dyn Ranks) {}

    /// Rows seen so far.
    fn rows(&self) -> i64;

    /// The directions of all rows seen so far; there must be at least one row a direction.
    fn spectrum(&self) -> Spectrum;
}
