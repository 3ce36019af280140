//! What EVA takes in of one pass.

use std::fmt;

use tch::Tensor;

use super::{EvaError, Input, Settings, SolverKind};
use crate::linalg::Rows;
use crate::pass::Tap;

/// Feeds the solvers as the pass shows the maps' inputs.
pub(super) struct Recorder<'a, S> {
    pub settings: &'a Settings,
    pub inputs: &'a mut [Input<S>],
    /// `[N]`, indices of the positions that count.
    pub rows: Option<&'a Tensor>,
    pub batch: usize,
    pub failure: Option<EvaError>,
}

impl<S: Ord + fmt::Display> Tap<S> for Recorder<'_, S> {
    fn record(&mut self, site: S, x: &Rows) {
        let Some(input) = self.inputs.iter_mut().find(|input| input.sites.contains(&site)) else { return };
        let rests = input.settled && self.settings.solver == SolverKind::Incremental;
        if self.failure.is_some() || std::mem::replace(&mut input.fed, true) || rests {
            return;
        }
        let updated = match self.rows {
            Some(rows) if rows.numel() == 0 => Ok(()),
            Some(rows) => input.solver.update(&x.select(rows)),
            None => input.solver.update(x),
        };
        if updated.is_err() {
            self.failure = Some(EvaError::NotFinite { site: site.to_string(), batch: self.batch });
        }
    }
}
