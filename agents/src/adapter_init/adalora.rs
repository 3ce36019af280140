//! AdaLoRA (arXiv 2303.10512): adapters P Λ Q whose rank budget shrinks in training, least important triplets first.
//!
//! A and B begin as normals of deviation 0.02 and Λ at zero. The importance of a number w is `I·U`, where I is
//! |w · ∂L/∂w| smoothed and U the smoothed distance of the one from the other (Eq. 8 to 11); that of triplet i is
//! the sum of Λ_i's, the mean of A's row i and the mean of B's column i (Eq. 7). As PEFT's `RankAllocator`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::decomposition::SiteError;
use super::method::WithDefaults;
use super::site_method::{SiteContext, SiteMethod};
use crate::adapter::site::ModuleName;
use crate::adapter::{AdapterSet, Lora, LoraOptions, OptionChecks, Rank, RunSize};

/// Standard deviation of A's and B's initial entries.
const INITIAL_STD: f64 = 0.02;

/// A and B random and Λ zero at `lora.rank`; the budget shrinks to `target_rank` a module on average. Keys are
/// PEFT's.
///
/// PEFT divides alpha by the rank and 10⁻⁵ more, so this does.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdaLora {
    /// Size of the adapters at first.
    pub lora: LoraOptions,
    /// Mean rank of a module at the end.
    pub target_rank: Rank,
    /// Updates before the budget begins to shrink.
    pub tinit: usize,
    /// Updates at the end during which ranks stay.
    pub tfinal: usize,
    /// Updates between two allocations of the budget.
    #[schemars(range(min = 1))]
    pub delta_t: usize,
    /// Smoothing of the sensitivity, β₁.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub beta1: f64,
    /// Smoothing of the uncertainty, β₂.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub beta2: f64,
    /// Weight of the orthogonality of A and B in the loss; PEFT's default is 0.5.
    #[schemars(range(min = 0.0))]
    pub orth_reg_weight: f64,
}

impl AdaLora {
    /// When the budget shrinks in a run of `total` updates.
    pub fn schedule(&self, total: usize) -> Schedule {
        let Self { target_rank, tinit, tfinal, delta_t, beta1, beta2, .. } = *self;
        Schedule { target_rank, total, tinit, tfinal, delta_t, beta1, beta2 }
    }
}

impl WithDefaults for AdaLora {
    fn with_defaults(lora: LoraOptions, updates: usize) -> Self {
        let rank = u16::from(lora.rank);
        let initial = Rank::try_from(rank.saturating_add(rank / 2)).expect("it is not zero");
        Self {
            target_rank: lora.rank,
            lora: LoraOptions { alpha: initial.get() as f64, rank: initial, ..lora },
            tinit: updates / 10,
            tfinal: updates / 2,
            delta_t: 10,
            beta1: 0.85,
            beta2: 0.85,
            orth_reg_weight: 0.5,
        }
    }
}

impl SiteMethod for AdaLora {
    fn name(&self) -> String {
        "AdaLoRA".to_owned()
    }

    fn lora(&self) -> &LoraOptions {
        &self.lora
    }

    fn check(&self, run: RunSize, checks: &mut OptionChecks) {
        let (target, rank) = (self.target_rank.get(), self.lora.rank.get());
        checks.relation("target_rank", target, target <= rank, "must be at most lora.rank");
        let fixed = self.tinit.saturating_add(self.tfinal);
        let wanted = "must be below the run's updates, or ranks never shrink";
        checks.relation("tinit + tfinal", fixed, fixed < run.updates, wanted);
    }

    fn init(&self, site: &SiteContext) -> Result<Lora, SiteError> {
        let (output, input) = site.weight.size2().expect("a weight is a matrix");
        let (rank, options) = (self.lora.rank.get(), (Kind::Float, site.weight.device()));
        let [down, up] =
            [[rank, input], [output, rank]].map(|shape| Tensor::randn(shape, options) * INITIAL_STD);
        let singular_values = Tensor::zeros([rank], options).set_requires_grad(true);
        let scale = self.lora.scale() * rank as f64 / (rank as f64 + 1e-5);
        Ok(Lora { singular_values: Some(singular_values), ..Lora::new(down, up, scale) })
    }
}

/// Mean over all A and B of ‖A Aᵀ − I‖ and ‖Bᵀ B − I‖ (Eq. 4, averaged as PEFT does), which the loss
/// takes in with a weight: `[]`. Zero where no adapter has values.
pub fn orthogonality(adapters: &AdapterSet) -> Tensor {
    let mut norms = Vec::with_capacity(2 * adapters.sites.len());
    for lora in adapters.sites.values().filter(|lora| lora.singular_values.is_some()) {
        let identity = Tensor::eye(lora.rank(), (Kind::Float, lora.down.device()));
        for gram in [lora.down.matmul(&lora.down.tr()), lora.up.tr().matmul(&lora.up)] {
            norms.push((gram - &identity).norm()); // []
        }
    }
    if norms.is_empty() {
        return Tensor::from(0f32);
    }
    Tensor::stack(&norms, 0).mean(Kind::Float)
}

/// When the budget shrinks, and how importance is smoothed.
///
/// It shrinks only if `tinit + tfinal` is below `total`.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Mean rank of a site at the end.
    pub target_rank: Rank,
    /// Updates of the whole run.
    pub total: usize,
    /// Updates before the budget begins to shrink.
    pub tinit: usize,
    /// Updates at the end during which the ranks no longer change.
    pub tfinal: usize,
    /// The budget is allocated again after so many updates.
    pub delta_t: usize,
    /// Smoothing of the sensitivity: β₁.
    pub beta1: f64,
    /// Smoothing of the uncertainty: β₂.
    pub beta2: f64,
}

impl Schedule {
    /// Triplets that may stay after update `update` (from 0) of `initial` at first and `target` at last:
    /// they fall with the cube of the time that is left (Eq. 12).
    fn budget(&self, update: usize, initial: i64, target: i64) -> i64 {
        let end = self.total.saturating_sub(self.tfinal);
        if update <= self.tinit {
            return initial;
        }
        if update >= end {
            return target;
        }
        let left = 1.0 - (update - self.tinit) as f64 / (end - self.tinit) as f64;
        ((initial - target) as f64 * left.powi(3) + target as f64) as i64
    }

    /// Whether the budget is allocated again after update `update`.
    fn allocates(&self, update: usize) -> bool {
        let end = self.total.saturating_sub(self.tfinal);
        update == end || update > self.tinit && update < end && update.is_multiple_of(self.delta_t)
    }
}

/// Allocates the budget while an adapter set trains.
#[derive(Debug)]
pub struct RankAllocator {
    schedule: Schedule,
    initial: i64,
    target: i64,
    sites: BTreeMap<ModuleName, Triplets>,
}

/// What is known of one site's triplets.
#[derive(Debug)]
struct Triplets {
    /// Of A `[R, in]`, B `[out, R]` and Λ `[R]`.
    parts: [Smoothed; 3],
    /// Which triplets stay: `[R]` of bool.
    kept: Tensor,
}

/// The importance of a tensor's numbers, each in its shape.
#[derive(Debug)]
struct Smoothed {
    sensitivity: Tensor,
    uncertainty: Tensor,
}

impl Smoothed {
    /// Takes in `|value · gradient|`, both `[…]`.
    fn update(&mut self, value: &Tensor, gradient: &Tensor, schedule: &Schedule) {
        let Schedule { beta1, beta2, .. } = *schedule;
        let now = (value.detach() * gradient).abs();
        self.sensitivity = &self.sensitivity * beta1 + &now * (1.0 - beta1);
        self.uncertainty = &self.uncertainty * beta2 + (now - &self.sensitivity).abs() * (1.0 - beta2);
    }

    fn score(&self) -> Tensor {
        &self.sensitivity * &self.uncertainty
    }
}

/// A saved state that does not fit.
#[derive(Debug, thiserror::Error)]
#[error("the rank allocator's state lacks `{0}` in the adapter's shape")]
pub struct BadState(pub String);

impl RankAllocator {
    /// Nothing seen yet, and every triplet stays; adapters without values are passed over.
    pub fn new(adapters: &AdapterSet, schedule: Schedule) -> Self {
        let mut sites = BTreeMap::new();
        for (site, lora) in &adapters.sites {
            let Some(values) = &lora.singular_values else { continue };
            let parts = [&lora.down, &lora.up, values].map(|tensor| Smoothed {
                sensitivity: tensor.detach().zeros_like(),
                uncertainty: tensor.detach().zeros_like(),
            });
            sites.insert(
                site.clone(),
                Triplets { parts, kept: values.detach().ones_like().to_kind(Kind::Bool) },
            );
        }
        let initial = sites.keys().map(|site| adapters.sites[site].rank()).sum();
        let target = schedule.target_rank.get() * sites.len() as i64;
        Self { schedule, initial, target, sites }
    }

    /// Takes in the gradients that update `update` (from 0) left, and zeroes the values of what goes.
    /// To be called after the optimiser's step and before the gradients are forgotten.
    pub fn update(&mut self, adapters: &AdapterSet, update: usize) {
        let end = self.schedule.total.saturating_sub(self.schedule.tfinal);
        if update < end {
            self.observe(adapters);
        }
        if self.schedule.allocates(update) {
            self.allocate(self.schedule.budget(update, self.initial, self.target));
        }
        if update >= end || self.schedule.allocates(update) {
            self.mask(adapters);
        }
    }

    /// How many triplets of each site stay.
    pub fn ranks(&self) -> BTreeMap<ModuleName, i64> {
        let kept = |triplets: &Triplets| triplets.kept.sum(Kind::Int64).int64_value(&[]);
        self.sites.iter().map(|(site, triplets)| (site.clone(), kept(triplets))).collect()
    }

    /// The smoothed importances and which triplets stay, by name.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = Vec::new();
        for (site, triplets) in &self.sites {
            for (part, smoothed) in PARTS.iter().zip(&triplets.parts) {
                state.push((
                    format!("adalora.sensitivity.{site}.{part}"),
                    smoothed.sensitivity.shallow_clone(),
                ));
                state.push((
                    format!("adalora.uncertainty.{site}.{part}"),
                    smoothed.uncertainty.shallow_clone(),
                ));
            }
            state.push((format!("adalora.kept.{site}"), triplets.kept.to_kind(Kind::Float)));
        }
        state
    }

    /// Takes back what [`RankAllocator::state`] gave.
    pub fn load_state(&mut self, find: impl Fn(&str) -> Option<Tensor>) -> Result<(), BadState> {
        let load = |name: String, into: &mut Tensor| {
            let found = find(&name).filter(|tensor| tensor.size() == into.size()).ok_or(BadState(name))?;
            *into = found.to_kind(into.kind()).to_device(into.device()).copy();
            Ok(())
        };
        for (site, triplets) in &mut self.sites {
            for (part, smoothed) in PARTS.iter().zip(&mut triplets.parts) {
                load(format!("adalora.sensitivity.{site}.{part}"), &mut smoothed.sensitivity)?;
                load(format!("adalora.uncertainty.{site}.{part}"), &mut smoothed.uncertainty)?;
            }
            load(format!("adalora.kept.{site}"), &mut triplets.kept)?;
        }
        Ok(())
    }

    fn observe(&mut self, adapters: &AdapterSet) {
        for (site, triplets) in &mut self.sites {
            let lora = &adapters.sites[site];
            let values = lora.singular_values.as_ref().expect("a site of the allocator has values");
            for (smoothed, value) in triplets.parts.iter_mut().zip([&lora.down, &lora.up, values]) {
                let gradient = value.grad();
                if gradient.defined() {
                    smoothed.update(value, &gradient, &self.schedule);
                }
            }
        }
    }

    /// Keeps the `budget` most important triplets of all sites; ties with the first that goes go too.
    fn allocate(&mut self, budget: i64) {
        let scores: Vec<Tensor> = self.sites.values().map(Triplets::scores).collect();
        let gone = self.initial - budget;
        if gone < 1 || scores.is_empty() {
            return;
        }
        let (threshold, _) = Tensor::cat(&scores, 0).kthvalue(gone, 0, false);
        for (triplets, scores) in self.sites.values_mut().zip(scores) {
            triplets.kept = scores.gt_tensor(&threshold);
        }
    }

    fn mask(&self, adapters: &AdapterSet) {
        tch::no_grad(|| {
            for (site, triplets) in &self.sites {
                let values = adapters.sites[site]
                    .singular_values
                    .as_ref()
                    .expect("a site of the allocator has values");
                let _ = values.shallow_clone().masked_fill_(&triplets.kept.logical_not(), 0.0);
            }
        });
    }
}

/// Names of [`Triplets::parts`].
const PARTS: [&str; 3] = ["lora_A", "lora_B", "lora_E"];

impl Triplets {
    /// The importance of each triplet: `[R]`.
    fn scores(&self) -> Tensor {
        let [down, up, values] = &self.parts;
        let rows = down.score().mean_dim(1, false, Kind::Float); // [R]
        let columns = up.score().mean_dim(0, false, Kind::Float); // [R]
        values.score() + (rows + columns)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn schedule() -> Schedule {
        Schedule {
            target_rank: rank(1),
            total: 20,
            tinit: 4,
            tfinal: 6,
            delta_t: 3,
            beta1: 0.85,
            beta2: 0.85,
        }
    }

    /// Two sites of rank 4.
    fn adapters() -> AdapterSet {
        let method = AdaLora {
            lora: size(4),
            target_rank: rank(1),
            tinit: 4,
            tfinal: 6,
            delta_t: 3,
            beta1: 0.85,
            beta2: 0.85,
            orth_reg_weight: 0.5,
        };
        let mut adapters = AdapterSet::default();
        for name in ["encoder.h.0.attn.c_attn", "encoder.h.0.mlp.c_fc"] {
            let weight = random([6, 5], 1);
            let given = SiteContext { weight: &weight, moments: None, gradient: None };
            adapters.sites.insert(name.into(), method.init(&given).unwrap());
        }
        adapters
    }

    /// A step of gradient descent towards a map of rank two at the first site, and of zero at the second.
    fn learn(adapters: &AdapterSet) {
        let target = random([6, 2], 2).matmul(&random([2, 5], 3));
        for (index, lora) in adapters.sites.values().enumerate() {
            let wanted = &target * if index == 0 { 3.0 } else { 0.0 };
            let mut parts =
                [&lora.down, &lora.up, lora.singular_values.as_ref().unwrap()].map(Tensor::shallow_clone);
            parts.iter_mut().for_each(Tensor::zero_grad);
            (lora.delta() - wanted).square().sum(Kind::Float).backward();
            tch::no_grad(|| {
                for part in &mut parts {
                    let step = part.grad() * 0.02;
                    *part -= step;
                }
            });
        }
    }

    #[test]
    fn the_budget_falls_with_the_cube_of_the_time_left() {
        let budgets: Vec<i64> = (0..20).map(|update| schedule().budget(update, 8, 2)).collect();
        assert_eq!(budgets, [8, 8, 8, 8, 8, 6, 5, 4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
        let updates: Vec<usize> = (0..20).filter(|update| schedule().allocates(*update)).collect();
        assert_eq!(updates, [6, 9, 12, 14]);
    }

    #[test]
    fn ranks_go_to_the_site_that_learns_and_stay_there() {
        tch::manual_seed(3);
        let adapters = adapters();
        let mut allocator = RankAllocator::new(&adapters, schedule());
        for update in 0..20 {
            learn(&adapters);
            allocator.update(&adapters, update);
        }
        assert_eq!(allocator.ranks().into_values().collect::<Vec<_>>(), [2, 0]);
        let live = |lora: &Lora| lora.singular_values.as_ref().unwrap().count_nonzero(None).int64_value(&[]);
        assert_eq!(adapters.sites.values().map(live).collect::<Vec<_>>(), [2, 0]);
        let plain = adapters.to_peft_lora();
        assert_eq!(plain.sites.values().map(Lora::rank).collect::<Vec<_>>(), [2]);
        for (site, lora) in &plain.sites {
            assert_close(&lora.delta(), &adapters.sites[site].delta(), 1e-6);
        }
    }

    #[test]
    fn an_allocator_goes_on_from_its_state() {
        let run = |stop: bool| {
            let adapters = adapters();
            for lora in adapters.sites.values() {
                let [mut down, mut up] = [&lora.down, &lora.up].map(Tensor::detach);
                down.copy_(&random([4, 5], 7));
                up.copy_(&random([6, 4], 8));
            }
            let mut allocator = RankAllocator::new(&adapters, schedule());
            for update in 0..20 {
                if stop && update == 10 {
                    let state: BTreeMap<String, Tensor> = allocator.state().into_iter().collect();
                    allocator = RankAllocator::new(&adapters, schedule());
                    assert!(allocator.load_state(|_| None).is_err());
                    allocator.load_state(|name| state.get(name).map(Tensor::shallow_clone)).unwrap();
                }
                learn(&adapters);
                allocator.update(&adapters, update);
            }
            adapters.state()
        };
        assert_eq!(run(true), run(false));
    }

    #[test]
    fn orthonormal_halves_cost_nothing_and_scaled_ones_do() {
        let mut adapters = adapters();
        for lora in adapters.sites.values_mut() {
            let (q, _) = Tensor::linalg_qr(&random([6, 4], 4), "reduced");
            let (p, _) = Tensor::linalg_qr(&random([5, 4], 5), "reduced");
            (lora.down, lora.up) = (p.tr(), q);
        }
        assert!(orthogonality(&adapters).double_value(&[]) < 1e-5);
        for lora in adapters.sites.values_mut() {
            lora.up = &lora.up * 2.0; // BᵀB = 4 I, so ‖BᵀB − I‖ = 3 √4
        }
        assert!((orthogonality(&adapters).double_value(&[]) - 3.0).abs() < 1e-5);
    }
}
