//! The mean gradient of behaviour cloning's loss over batches, which gradient-based methods start from.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::adapter::AdapterSet;
use crate::adapter::site::{ModuleName, Site};
use crate::loss::behaviour_cloning;
use crate::model::{ForwardContext, Inputs, TransformerPolicy};

/// The mean over `batches` of [`behaviour_cloning`]'s gradient with respect to each module's weight,
/// `[out, in]` each, without dropout; empty where there is no batch.
///
/// It is computed on a copy of the policy, one batch at a time; the policy itself stays frozen.
pub fn mean_gradients(
    policy: &TransformerPolicy,
    sites: &[Site],
    batches: impl IntoIterator<Item = Inputs>,
) -> BTreeMap<ModuleName, Tensor> {
    let copy = tch::no_grad(|| policy.merged(&AdapterSet::default()));
    let weight = |module: &ModuleName| copy.weights()[&format!("{module}.weight")].shallow_clone();
    for site in sites {
        let _ = weight(&site.module).requires_grad_(true);
    }
    let mut count = 0;
    for inputs in batches {
        behaviour_cloning(&copy, &mut ForwardContext::bare(), &inputs).backward(); // adds to the batches' before it
        count += 1;
    }
    if count == 0 {
        return BTreeMap::new();
    }
    let mean = |site: &Site| {
        let weight = weight(&site.module);
        let gradient = weight.grad(); // undefined where the loss does not reach
        let sum = if gradient.defined() { gradient } else { weight.detach().zeros_like() };
        let sum = if site.fan_in_fan_out { sum.tr() } else { sum.flatten(1, -1) };
        sum / f64::from(count)
    };
    sites.iter().map(|site| (site.module.clone(), mean(site))).collect()
}
