//! EVA's progress, its result, and its errors.

use std::collections::BTreeMap;
use std::fmt;

use tch::Tensor;

/// Why activations cannot be decomposed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each variant's sentence says what its fields are
pub enum EvaError {
    #[error(
        "{batches} batches gave {found} unpadded tokens at {site}, and {wanted} components need at least as many"
    )]
    TooFewRows { site: String, batches: usize, found: i64, wanted: i64 },

    #[error("the activations of {site} hold NaN or infinity in batch {batch}")]
    NotFinite { site: String, batch: usize },

    #[error(
        "`whiten` divides each row of A by the root of its singular value, and those of {site} hold a zero; lower the rank, or leave `whiten` out"
    )]
    NoVariance { site: String },

    #[error("no pass showed the activations of {site}")]
    NotSeen { site: String },
}

/// How far EVA is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Batches observed.
    pub batches: usize,
    /// Fraction of the modules whose components have converged.
    pub converged_fraction: f64,
    /// Whether the stopping rule is met.
    pub done: bool,
}

/// EVA's result at one module.
#[derive(Clone, Debug)]
pub struct SiteReport<S> {
    /// The module.
    pub site: S,
    /// The rank allocated to it; 0 means that it gets no adapter.
    pub rank: i64,
    /// Fraction of the module's variance that each candidate component explains, descending.
    pub explained: Vec<f64>,
    /// How sure its components are: under [`super::StopRule::ComponentCosine`] the least cosine to the batch before,
    /// under [`super::StopRule::SplitHalf`] the estimated root mean square cosine to all of the data's; 1 if it has
    /// none.
    pub cosine: f64,
}

impl<S> SiteReport<S> {
    /// Fraction of the module's variance that its adapter's components explain together.
    pub fn explained_variance(&self) -> f64 {
        self.explained[..self.rank as usize].iter().fold(0.0, |sum, ratio| sum + ratio) // a sum of none is −0
    }
}

/// EVA's result.
#[derive(Debug)]
pub struct EvaResult<S> {
    /// A of each module that gets an adapter: `[R, in]`, float32.
    pub components: BTreeMap<S, Tensor>,
    /// Every module, in order.
    pub sites: Vec<SiteReport<S>>,
    /// How far it was when it ended.
    pub progress: Progress,
}

impl<S> fmt::Display for EvaResult<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { batches, converged_fraction, done } = self.progress;
        let how = if done { "converged" } else { "stopped, not yet converged," };
        let percent = 100.0 * converged_fraction;
        write!(f, "{how} after {batches} batches, {percent:.0}% of the modules by themselves")
    }
}
