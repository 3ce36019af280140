//! The mean gradient of behaviour cloning's loss over batches, which gradient-based methods start from.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::adapter::AdapterSet;
use crate::adapter::site::{ModuleName, Site};
use crate::loss::behaviour_cloning;
use crate::model::{ForwardContext, Inputs, TransformerPolicy};
use crate::ranks::{Ranks, sum_over};

/// The mean over `batches` of [`behaviour_cloning`]'s gradient with respect to each module's weight,
/// `[out, in]` each, without dropout; empty where there is no batch.
///
/// It is computed on a copy of the policy, one batch at a time, of which each of `ranks` takes a part; the policy itself
/// stays frozen.
pub fn mean_gradients(
    policy: &TransformerPolicy,
    sites: &[Site],
    ranks: &dyn Ranks,
    batches: impl IntoIterator<Item = Inputs>,
) -> BTreeMap<ModuleName, Tensor> {
    let copy = tch::no_grad(|| policy.merged(&AdapterSet::default()));
    let weight = |module: &ModuleName| copy.weights()[&format!("{module}.weight")].shallow_clone();
    for site in sites {
        let _ = weight(&site.module).requires_grad_(true);
    }
    let mut count = 0;
    for inputs in batches {
        count += 1;
        let Some((part, share)) = inputs.part_of(ranks) else { continue };
        let loss = behaviour_cloning(&copy, &mut ForwardContext::bare(), &part);
        (loss * share).backward(); // adds to the batches' before it
    }
    if count == 0 {
        return BTreeMap::new();
    }
    let gradient = |site: &Site| {
        let weight = weight(&site.module);
        let gradient = weight.grad(); // undefined where the loss does not reach
        if gradient.defined() { gradient } else { weight.detach().zeros_like() }
    };
    let sums: Vec<Tensor> = sites.iter().map(gradient).collect();
    sum_over(ranks, &sums, &mut []);
    let mean = |(site, sum): (&Site, Tensor)| {
        let sum = if site.fan_in_fan_out { sum.tr() } else { sum.flatten(1, -1) };
        (site.module.clone(), sum / f64::from(count))
    };
    sites.iter().zip(sums).map(mean).collect()
}
