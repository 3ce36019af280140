//! Every site of a policy begun by one method, from what the data shows of it.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::{Given, Method, Needs, PlaceError, mean_gradients};
use crate::adapter::{AdapterSet, Rank, Scaling};
use crate::linalg::{End, Gram, Rows, Solver};
use crate::model::{DecisionTransformer, Inputs};
use crate::pass::{Pass, Tap};
use crate::site::Site;

/// A site at which a method cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("{site} cannot be adapted so: {source}")]
pub struct BeginError {
    /// The site.
    pub site: Site,
    /// Why.
    pub source: PlaceError,
}

/// Adapters of the policy's sites, begun by `method`; `batches` are looked at if it needs data.
pub fn begin(
    policy: &DecisionTransformer,
    method: &dyn Method,
    rank: Rank,
    scaling: Scaling,
    batches: impl IntoIterator<Item = Inputs>,
) -> Result<AdapterSet, BeginError> {
    let sites = policy.sites();
    let (moments, gradients) = match method.needs() {
        Needs::Nothing => Default::default(),
        Needs::Moments => (input_moments(policy, &sites, batches)?, BTreeMap::new()),
        Needs::Gradient => (BTreeMap::new(), mean_gradients(policy, &sites, batches)),
    };
    let mut adapters = AdapterSet::default();
    for site in sites {
        let weight = &policy.matrix(site);
        let given = Given { weight, moments: moments.get(&site), gradient: gradients.get(&site) };
        let lora = method.place(&given, rank, scaling).map_err(|source| BeginError { site, source })?;
        adapters.sites.insert(site, lora);
    }
    Ok(adapters)
}

/// E[x xᵀ] of each site's unpadded inputs over `batches`, f64: `[in, in]`.
fn input_moments(
    policy: &DecisionTransformer,
    sites: &[Site],
    batches: impl IntoIterator<Item = Inputs>,
) -> Result<BTreeMap<Site, Tensor>, BeginError> {
    let mut grams = BTreeMap::new();
    for &site in sites {
        let (width, _) = policy.site_shape(site).expect("a site of this policy");
        grams.insert(site, Gram::new(width, width, false, End::Leading));
    }
    let no_adapters = AdapterSet::default();
    for inputs in batches {
        let real = policy.token_mask(&inputs).flatten(0, -1).nonzero().squeeze_dim(-1); // [N]
        let mut tap = Moments { grams: &mut grams, real: &real, failure: None };
        let mut pass = Pass { adapters: &no_adapters, tap: &mut tap, train: false, mixed: false };
        tch::no_grad(|| policy.show(&mut pass, &inputs));
        if let Some(site) = tap.failure {
            return Err(BeginError { site, source: PlaceError::NotFinite });
        }
    }
    Ok(grams.into_iter().map(|(site, gram)| (site, gram.moments())).collect())
}

/// Sums the products of the sites' inputs.
struct Moments<'a> {
    grams: &'a mut BTreeMap<Site, Gram>,
    /// `[N]`, indices of unpadded tokens.
    real: &'a Tensor,
    failure: Option<Site>,
}

impl Tap for Moments<'_> {
    fn record(&mut self, site: Site, x: &Rows) {
        let Some(gram) = self.grams.get_mut(&site) else { return };
        // In f64, because CorDA inverts what comes of it.
        let rows = x.dense().index_select(0, self.real).to_kind(Kind::Double); // [N, in]
        if gram.update(&Rows::of(&rows)).is_err() {
            self.failure.get_or_insert(site);
        }
    }
}
