//! One input of the model, and what EVA knows of it.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::options::EvaOptions;
use crate::adapter::Rank;
use crate::pca::{Solver, Spectrum};

/// Linear modules that are given the same input, so that it is solved once.
#[derive(Clone, Debug)]
pub struct SharedInput<S> {
    /// The modules, in order.
    pub sites: Vec<S>,
    /// Width of the input.
    pub width: i64,
    /// Whether its rows are patches of images, whose variance falls too slowly for a sketch of few columns.
    pub of_patches: bool,
}

#[derive(Debug)]
pub(super) struct Input<S> {
    pub sites: Vec<S>,
    pub width: i64,
    pub candidates: i64,
    pub solver: Box<dyn Solver>,
    /// The components when they were last computed.
    pub spectrum: Option<Spectrum>,
    /// Cosine of each candidate to the update before.
    pub turns: Vec<f64>,
    /// Σ cos² of the principal angles between the halves' first 0, 1, 2, … candidates; none without halves.
    pub agreement: Option<Vec<f64>>,
    /// See [`super::SiteReport::cosine`].
    pub cosine: f64,
    pub converged: bool,
}

impl<S: Ord> Input<S> {
    /// Nothing seen yet, of modules of this rank or less.
    pub fn new(input: SharedInput<S>, rank: Rank, options: &EvaOptions, device: Device) -> Self {
        let candidates = options.candidates(rank, input.width);
        Self {
            candidates,
            solver: options.solver(candidates, input.width, input.of_patches, device),
            width: input.width,
            sites: input.sites,
            spectrum: None,
            turns: Vec::new(),
            agreement: None,
            cosine: 0.0,
            converged: false,
        }
    }

    /// Computes the components of all rows so far.
    pub fn update(&mut self) {
        if self.spectrum.as_ref().is_some_and(|old| old.rows == self.solver.rows()) {
            return; // it rests, and its components are as its last batch left them
        }
        let new = self.solver.spectrum();
        if let Some(old) = &self.spectrum {
            let cosines = (&new.basis * &old.basis).sum_dim_intlist(1, false, Kind::Double); // [C]
            self.turns = Vec::try_from(cosines).expect("cosines are float64");
        }
        self.agreement = new.halves.as_ref().map(agreement);
        self.spectrum = Some(new);
    }

    /// Components that some module of this input uses.
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
