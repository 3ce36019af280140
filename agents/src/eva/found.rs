//! What EVA says: how far it is, what it found, why it cannot.

use std::collections::BTreeMap;

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

    #[error("EVA was given {found}, and with it {wanted} is wanted")]
    Contradiction { found: &'static str, wanted: &'static str },

    #[error(
        "`whiten` divides each row of A by the root of its singular value, and those of {site} hold a zero; lower the rank, or leave `whiten` out"
    )]
    NoVariance { site: String },

    #[error("no pass showed the activations of {site}")]
    NotSeen { site: String },
}

/// How far EVA is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Share of the sites whose directions have settled.
    pub settled: f64,
    /// Whether the rule says stop.
    pub done: bool,
}

/// What EVA found at one site.
#[derive(Clone, Debug)]
pub struct SiteReport<S> {
    /// The site.
    pub site: S,
    /// Rank that it was given; 0 means that it gets no adapter.
    pub rank: i64,
    /// Share of the site's variance that each candidate direction explains, descending.
    pub explained: Vec<f64>,
    /// How sure its directions are: under [`super::Stop::Turn`] the least cosine to the batch before, under
    /// [`super::Stop::Halves`] the estimated root mean square cosine to all of the data's; 1 if it has none.
    pub cosine: f64,
}

impl<S> SiteReport<S> {
    /// Share of the site's variance that its adapter's directions explain together.
    pub fn covered(&self) -> f64 {
        self.explained[..self.rank as usize].iter().fold(0.0, |sum, share| sum + share) // a sum of none is −0
    }
}

/// What EVA found.
#[derive(Debug)]
pub struct Found<S> {
    /// A of each site that gets an adapter: `[R, in]`, float32.
    pub directions: BTreeMap<S, Tensor>,
    /// Every site, in order.
    pub reports: Vec<SiteReport<S>>,
}
