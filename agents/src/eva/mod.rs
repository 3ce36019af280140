//! Explained variance adaptation (EVA, arXiv 2410.07170): adapters that start along the directions in
//! which a frozen policy's activations vary most over the new task's data.
//!
//! Per site: the leading right-singular vectors of its input activations (incremental, centred, as in
//! Algorithm 2), ranks shared out by explained variance, `A` the first vectors as rows, `B = 0`.

mod allocate;

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use crate::adapter::{self, AdapterSet, Rank, Scaling};
use crate::linalg::IncrementalPca;
use crate::model::{DecisionTransformer, Inputs};
use crate::pass::{Pass, Tap};
use crate::site::Site;

pub use allocate::allocate;

/// How EVA spends its rank budget, and when a component counts as settled.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Mean rank of a site; the budget is this times the number of sites.
    pub rank: Rank,
    /// Its scale at the mean rank is that of every adapter, whatever its own rank.
    pub scaling: Scaling,
    /// A site's rank is at most `round(rho · rank)`.
    pub rho: f64,
    /// A component has settled once its cosine to the last batch's is at least this.
    pub tau: f64,
}

/// Why activations cannot be decomposed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each variant's sentence says what its fields are
pub enum EvaError {
    #[error("a batch has {found} unpadded tokens, and {wanted} components need at least as many")]
    TooFewRows { found: i64, wanted: i64 },

    #[error("the activations of {site} hold NaN or infinity in batch {batch}")]
    NotFinite { site: Site, batch: usize },
}

/// What EVA found at one site.
#[derive(Clone, Debug)]
pub struct SiteReport {
    /// The site.
    pub site: Site,
    /// Rank that it was given; 0 means that it gets no adapter.
    pub rank: i64,
    /// Share of the site's variance that each candidate component explains, descending.
    pub explained: Vec<f64>,
    /// Cosine of each candidate component to its predecessor at the last batch.
    pub cosines: Vec<f64>,
}

impl SiteReport {
    /// Share of the site's variance that its adapter's directions explain together.
    pub fn covered(&self) -> f64 {
        self.explained[..self.rank as usize].iter().sum()
    }
}

/// EVA in progress: feed it batches with [`Eva::observe`], then [`Eva::finish`].
#[derive(Debug)]
pub struct Eva {
    settings: Settings,
    batches: usize,
    sites: BTreeMap<Site, SiteState>,
}

#[derive(Debug)]
struct SiteState {
    pca: IncrementalPca,
    cosines: Vec<f64>,
}

impl Eva {
    /// Ready for the first batch; `sites` are those that may get an adapter.
    pub fn new(policy: &DecisionTransformer, sites: &[Site], settings: Settings) -> Self {
        let candidates = (settings.rank.get() as f64 * settings.rho).round() as i64;
        let mut states = BTreeMap::new();
        for &site in sites {
            let (width, _) = policy.site_shape(site).expect("a site of this policy");
            let pca = IncrementalPca::new(candidates, width, policy.device());
            let cosines = vec![0.0; pca.components() as usize];
            states.insert(site, SiteState { pca, cosines });
        }
        Self { settings, batches: 0, sites: states }
    }

    /// Batches seen so far.
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// Takes in one batch's activations and gives the share of sites that have settled.
    ///
    /// A site has settled when every component that the present ranks would use has; it then rests,
    /// until a later sharing-out gives it a component that has not.
    pub fn observe(&mut self, policy: &DecisionTransformer, inputs: &Inputs) -> Result<f64, EvaError> {
        let rows = policy.token_mask(inputs).flatten(0, -1).nonzero().squeeze_dim(-1); // [N]
        let found = rows.size()[0];
        let wanted = self.sites.values().map(|state| state.pca.components()).max().unwrap_or(0);
        if found < wanted {
            return Err(EvaError::TooFewRows { found, wanted });
        }
        let settled = if self.batches == 0 { Vec::new() } else { self.settled() };
        let mut tap = Recorder { eva: self, rows: &rows, resting: &settled, failure: None };
        let no_adapters = AdapterSet::default();
        let mut pass = Pass { adapters: &no_adapters, tap: &mut tap, train: false };
        let _activations_seen = tch::no_grad(|| policy.encode(&mut pass, inputs));
        if let Some(failure) = tap.failure {
            return Err(failure);
        }
        self.batches += 1;
        Ok(self.settled().len() as f64 / self.sites.len() as f64)
    }

    /// Shares out the ranks and places the vectors; every `B` is zero.
    pub fn finish(self, policy: &DecisionTransformer, dropout: f64) -> (AdapterSet, Vec<SiteReport>) {
        let ranks = self.ranks();
        let scale = self.settings.scaling.scale(self.settings.rank.get());
        let mut adapters = AdapterSet { dropout, ..AdapterSet::default() };
        let mut reports = Vec::with_capacity(self.sites.len());
        for (site, state) in self.sites {
            let rank = ranks.get(&site).map_or(0, |rank| rank.get());
            if rank > 0 {
                let (_, output) = policy.site_shape(site).expect("a site of this policy");
                let down = state.pca.basis().narrow(0, 0, rank).to_kind(Kind::Float).copy(); // [R, in]
                adapters.sites.insert(site, adapter::placed(down, output, scale));
            }
            let explained = state.pca.explained_variance_ratio();
            reports.push(SiteReport { site, rank, explained, cosines: state.cosines });
        }
        (adapters, reports)
    }

    /// Ranks that the explained variances seen so far would give.
    fn ranks(&self) -> BTreeMap<Site, Rank> {
        let explained: BTreeMap<Site, Vec<f64>> =
            self.sites.iter().map(|(site, state)| (*site, state.pca.explained_variance_ratio())).collect();
        allocate(&explained, self.settings.rank.get() as usize * self.sites.len())
    }

    /// Sites whose used components have all settled.
    fn settled(&self) -> Vec<Site> {
        let ranks = self.ranks();
        let mut settled = Vec::new();
        for (site, state) in &self.sites {
            let used = ranks.get(site).map_or(0, |rank| rank.get() as usize);
            if state.cosines[..used].iter().all(|cosine| *cosine >= self.settings.tau) {
                settled.push(*site);
            }
        }
        settled
    }
}

/// Feeds the sites' unpadded rows to their solvers as the pass meets them.
struct Recorder<'a> {
    eva: &'a mut Eva,
    /// `[N]`, indices of unpadded tokens.
    rows: &'a Tensor,
    resting: &'a [Site],
    failure: Option<EvaError>,
}

impl Tap for Recorder<'_> {
    /// `x`: `[B, K, in]`.
    fn record(&mut self, site: Site, x: &Tensor) {
        if self.failure.is_some() || self.resting.contains(&site) {
            return;
        }
        let batch = self.eva.batches;
        let Some(state) = self.eva.sites.get_mut(&site) else { return };
        let rows = x.flatten(0, 1).index_select(0, self.rows); // [N, in]
        if rows.isfinite().all().int64_value(&[]) == 0 {
            self.failure = Some(EvaError::NotFinite { site, batch });
            return;
        }
        state.cosines = state.pca.update(&rows);
    }
}
