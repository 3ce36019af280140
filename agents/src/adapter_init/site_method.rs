//! Methods that initialise one module at a time, from what the data shows of it.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::counted::{Chosen, Counted};
use super::decomposition::SiteError;
use super::eva::{PATCHES, Progress, SharedInput};
use super::eva_method::shared_inputs;
use super::gradient::mean_gradients;
use super::method::{AdapterMethod, InitError, Initialised, TaskData};
use crate::adapter::site::{ModuleName, Site};
use crate::adapter::{AdapterSet, Lora, LoraOptions, OptionChecks, RunSize};
use crate::model::{ForwardContext, Inputs, Tap, TransformerPolicy};
use crate::pca::{Covariance, End, Solver};
use crate::ranks::Ranks;
use crate::tensor::Rows;

/// What a method may look at when it initialises one module's adapter.
#[derive(Debug)]
pub struct SiteContext<'a> {
    /// W: `[out, in]`.
    pub weight: &'a Tensor,
    /// E[x xᵀ] of the module's inputs over the task's data, f64: `[in, in]`; there if the method requires it.
    pub moments: Option<&'a Tensor>,
    /// Mean gradient of the loss with respect to W: `[out, in]`; there if the method requires it.
    pub gradient: Option<&'a Tensor>,
}

/// What a method requires beside the weights, over so many batches of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requires {
    /// Nothing.
    Weights,
    /// [`SiteContext::moments`].
    Moments(usize),
    /// [`SiteContext::gradient`].
    Gradients(usize),
}

/// A method that initialises one module at a time, all at the same rank.
pub trait SiteMethod {
    /// Its name in tables and figures.
    fn name(&self) -> String;

    /// The size of its adapters.
    fn lora(&self) -> &LoraOptions;

    /// Refuses options that contradict each other or the run.
    fn check(&self, _: RunSize, _: &mut OptionChecks) {}

    /// Components of a module that its adapter takes.
    fn components(&self) -> i64 {
        self.lora().rank.get()
    }

    /// What it requires beside the weights.
    fn requires(&self) -> Requires {
        Requires::Weights
    }

    /// The adapter of one module, trainable.
    fn init(&self, site: &SiteContext) -> Result<Lora, SiteError>;
}

impl<M: SiteMethod> AdapterMethod for M {
    fn name(&self) -> String {
        SiteMethod::name(self)
    }

    fn lora(&self) -> Option<&LoraOptions> {
        Some(SiteMethod::lora(self))
    }

    fn check(&self, run: RunSize, checks: &mut OptionChecks) {
        SiteMethod::check(self, run, checks);
    }

    fn components(&self) -> i64 {
        SiteMethod::components(self)
    }

    fn initialise(
        &self,
        policy: &TransformerPolicy,
        sites: &[Site],
        data: &mut dyn TaskData,
        _: &mut dyn FnMut(Progress),
    ) -> Result<Initialised, InitError> {
        let (moments, gradients) = match self.requires() {
            Requires::Weights => Default::default(),
            Requires::Moments(batches) => {
                (input_moments(policy, sites, data.ranks(), sampled(data, batches))?, BTreeMap::new())
            }
            Requires::Gradients(batches) => {
                (BTreeMap::new(), mean_gradients(policy, sites, data.ranks(), sampled(data, batches)))
            }
        };
        if data.is_interrupted() {
            return Err(InitError::Interrupted);
        }
        let mut adapters = AdapterSet::default();
        for Site { module, .. } in sites {
            let weight = &policy.matrix(module);
            let context =
                SiteContext { weight, moments: moments.get(module), gradient: gradients.get(module) };
            let lora =
                self.init(&context).map_err(|source| InitError::Site { module: module.clone(), source })?;
            adapters.sites.insert(module.clone(), lora);
        }
        Ok(Initialised { adapters: Some(adapters), eva: None })
    }
}

/// So many batches, or fewer where the initialisation is interrupted.
fn sampled(data: &mut dyn TaskData, batches: usize) -> impl Iterator<Item = Inputs> {
    (0..batches).map_while(|batch| (!data.is_interrupted()).then(|| data.sampled_batch(batch)))
}

/// E[x xᵀ] of each module's unpadded inputs over `batches`, of which each of `ranks` takes a part, f64: `[in, in]`.
fn input_moments(
    policy: &TransformerPolicy,
    sites: &[Site],
    ranks: &dyn Ranks,
    batches: impl IntoIterator<Item = Inputs>,
) -> Result<BTreeMap<ModuleName, Tensor>, InitError> {
    let chosen = Chosen { sites, tokens: &[], patches: PATCHES };
    let mut covariances = BTreeMap::new();
    for SharedInput { sites, width, .. } in shared_inputs(sites) {
        covariances.insert(sites[0].clone(), (sites, Covariance::new(width, width, false, End::Leading)));
    }
    for (batch, inputs) in batches.into_iter().enumerate() {
        // The first batch decides what is summed, so all see it whole.
        let part = if batch == 0 { Some(inputs) } else { inputs.part_of(ranks).map(|(part, _)| part) };
        let Some(inputs) = part else { continue };
        let mut tap = Moments { covariances: &mut covariances, not_finite: None };
        let mut counted = Counted::new(&mut tap, chosen, policy, &inputs, batch as u64);
        tch::no_grad(|| {
            policy.collect_inputs(&mut ForwardContext::bare().observed_by(&mut counted), &inputs)
        });
        if let Some(module) = tap.not_finite {
            return Err(InitError::Site { module, source: SiteError::NotFinite });
        }
        if batch == 0 && !ranks.is_first() {
            covariances.values_mut().for_each(|(_, covariance)| covariance.forget());
        }
    }
    if !ranks.is_alone() {
        covariances.values_mut().for_each(|(_, covariance)| covariance.share(ranks));
    }
    let of_each = covariances.into_values().flat_map(|(sites, covariance)| {
        let moments = covariance.moments();
        sites.into_iter().map(move |site| (site, moments.shallow_clone())).collect::<Vec<_>>()
    });
    Ok(of_each.collect())
}

/// Sums the products of the modules' inputs, by the first module of each.
struct Moments<'a> {
    covariances: &'a mut BTreeMap<ModuleName, (Vec<ModuleName>, Covariance)>,
    not_finite: Option<ModuleName>,
}

impl Tap for Moments<'_> {
    fn record(&mut self, module: &ModuleName, x: &Rows) {
        let Some((_, covariance)) = self.covariances.get_mut(module) else { return };
        // In f64, because CorDA inverts the moments.
        let rows = x.dense().to_kind(Kind::Double); // [N, in]
        if covariance.update(&Rows::of(&rows)).is_err() {
            self.not_finite.get_or_insert_with(|| module.clone());
        }
    }
}
