//! What EVA takes in of one pass.

use std::fmt;

use tch::Tensor;

use super::EvaError;
use crate::linalg::{Rows, Solver, Sums};
use crate::pass::Tap;

/// Where the rows of one input go.
#[derive(Debug)]
pub(super) enum Sink<'a> {
    Solver(&'a mut dyn Solver),
    /// The half of the data that this pass shows.
    Half(&'a mut Sums),
    /// The input rests.
    Nowhere,
}

/// One input, as a pass shows it.
#[derive(Debug)]
pub(super) struct Feed<'a, S> {
    pub sites: &'a [S],
    pub sink: Sink<'a>,
    /// Whether its rows were seen.
    pub fed: bool,
}

/// Feeds the sinks as the pass shows the maps' inputs.
pub(super) struct Recorder<'a, S> {
    pub feeds: Vec<Feed<'a, S>>,
    /// `[N]`, indices of the positions that count; all of them where absent.
    pub rows: Option<Tensor>,
    /// The first site whose rows were not finite.
    pub failure: Option<S>,
}

impl<'a, S: PartialEq + fmt::Display> Recorder<'a, S> {
    /// What `pass` shows in batch `batch`.
    pub fn take(
        feeds: Vec<Feed<'a, S>>,
        rows: Option<Tensor>,
        batch: usize,
        pass: impl FnOnce(&mut dyn Tap<S>),
    ) -> Result<(), EvaError> {
        let mut recorder = Self { feeds, rows, failure: None };
        pass(&mut recorder);
        if let Some(site) = recorder.failure {
            return Err(EvaError::NotFinite { site: site.to_string(), batch });
        }
        match recorder.feeds.iter().find(|feed| !feed.fed) {
            Some(unseen) => Err(EvaError::NotSeen { site: unseen.sites[0].to_string() }),
            None => Ok(()),
        }
    }
}

impl<S: PartialEq + fmt::Display> Tap<S> for Recorder<'_, S> {
    fn record(&mut self, site: S, x: &Rows) {
        let Some(feed) = self.feeds.iter_mut().find(|feed| feed.sites.contains(&site)) else { return };
        if self.failure.is_some() || std::mem::replace(&mut feed.fed, true) {
            return;
        }
        let selected = match &self.rows {
            Some(rows) if rows.numel() == 0 => return,
            Some(rows) => &x.select(rows),
            None => x,
        };
        let taken = match &mut feed.sink {
            Sink::Solver(solver) => solver.update(selected),
            Sink::Half(half) => half.add(selected),
            Sink::Nowhere => Ok(()),
        };
        if taken.is_err() {
            self.failure = Some(site);
        }
    }
}
