//! One input of the model, and what EVA knows of it.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::{Settings, SharedInput};
use crate::adapter::Rank;
use crate::linalg::{Solver, Spectrum};

#[derive(Debug)]
pub(super) struct Input<S> {
    pub sites: Vec<S>,
    pub candidates: i64,
    pub solver: Box<dyn Solver>,
    /// The directions when they were last looked at.
    pub spectrum: Option<Spectrum>,
    /// Cosine of each candidate to the look before.
    pub turns: Vec<f64>,
    /// Σ cos² of the principal angles between the halves' first 0, 1, 2, … candidates; none without halves.
    pub agreement: Option<Vec<f64>>,
    /// See [`super::SiteReport::cosine`].
    pub cosine: f64,
    pub settled: bool,
}

impl<S: Ord> Input<S> {
    /// Nothing seen yet.
    pub fn new(SharedInput { sites, width }: SharedInput<S>, settings: &Settings, device: Device) -> Self {
        Self {
            sites,
            candidates: settings.candidates(width),
            solver: settings.solver(width, device),
            spectrum: None,
            turns: Vec::new(),
            agreement: None,
            cosine: 0.0,
            settled: false,
        }
    }

    /// Looks at the directions of all rows so far.
    pub fn look(&mut self) {
        if self.spectrum.as_ref().is_some_and(|old| old.rows == self.solver.rows()) {
            return; // it rests, and its directions are as settled as its last batch left them
        }
        let new = self.solver.spectrum();
        if let Some(old) = &self.spectrum {
            let cosines = (&new.basis * &old.basis).sum_dim_intlist(1, false, Kind::Double); // [C]
            self.turns = Vec::try_from(cosines).expect("cosines are float64");
        }
        self.agreement = new.halves.as_ref().map(agreement);
        self.spectrum = Some(new);
    }

    /// Directions that some site of this input uses.
    pub fn used(&self, ranks: &BTreeMap<S, Rank>) -> usize {
        let ranks = self.sites.iter().filter_map(|site| ranks.get(site));
        ranks.map(|rank| rank.get() as usize).max().unwrap_or(0)
    }
}

/// Σ cos² of the principal angles between the first 0, 1, 2, … rows of both, which are orthonormal: `[C, width]`
/// each → `[C + 1]`.
fn agreement([first, second]: &[Tensor; 2]) -> Vec<f64> {
    let squares = first.matmul(&second.tr()).square(); // [C, C], (cos of each to each)²
    let sums = squares.cumsum(0, Kind::Double).cumsum(1, Kind::Double).diagonal(0, 0, 1).contiguous();
    let sums: Vec<f64> = Vec::try_from(sums).expect("sums are float64");
    std::iter::once(0.0).chain(sums).collect()
}
