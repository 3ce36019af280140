//! What EVA records of one pass.

use std::fmt;

use super::outcome::EvaError;
use crate::model::Tap;
use crate::pca::{Moments, Solver};
use crate::tensor::Rows;

/// Where the rows of one input go.
#[derive(Debug)]
pub(super) enum Destination<'a> {
    Solver(&'a mut dyn Solver),
    /// The half of the data that this pass shows.
    Half(&'a mut Moments),
    /// The input rests.
    Nowhere,
}

/// One input, as a pass shows it.
#[derive(Debug)]
pub(super) struct RecordedInput<'a, S> {
    pub sites: &'a [S],
    pub destination: Destination<'a>,
    /// Whether its rows were seen.
    pub fed: bool,
}

/// Passes rows on as the pass shows the maps' inputs.
pub(super) struct Recorder<'a, S> {
    pub inputs: Vec<RecordedInput<'a, S>>,
    /// The first site whose rows were not finite.
    pub failure: Option<S>,
}

impl<'a, S: PartialEq + Clone + fmt::Display> Recorder<'a, S> {
    /// What `pass` shows in batch `batch`.
    pub fn take(
        inputs: Vec<RecordedInput<'a, S>>,
        batch: usize,
        pass: impl FnOnce(&mut dyn Tap<S>),
    ) -> Result<(), EvaError> {
        let mut recorder = Self { inputs, failure: None };
        pass(&mut recorder);
        if let Some(site) = recorder.failure {
            return Err(EvaError::NotFinite { site: site.to_string(), batch });
        }
        match recorder.inputs.iter().find(|input| !input.fed) {
            Some(unseen) => Err(EvaError::NotSeen { site: unseen.sites[0].to_string() }),
            None => Ok(()),
        }
    }
}

impl<S: PartialEq + Clone + fmt::Display> Tap<S> for Recorder<'_, S> {
    fn record(&mut self, site: &S, x: &Rows) {
        let Some(input) = self.inputs.iter_mut().find(|input| input.sites.contains(site)) else { return };
        if self.failure.is_some() || std::mem::replace(&mut input.fed, true) {
            return;
        }
        if x.shape().0 == 0 {
            return; // none of this pass counts
        }
        let taken = match &mut input.destination {
            Destination::Solver(solver) => solver.update(x),
            Destination::Half(half) => half.add(x),
            Destination::Nowhere => Ok(()),
        };
        if taken.is_err() {
            self.failure = Some(site.clone());
        }
    }
}
