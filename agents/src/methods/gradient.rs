//! The mean gradient of imitation's loss over batches, which gradient-based starts look at.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::adapter::AdapterSet;
use crate::model::{DecisionTransformer, Inputs};
use crate::objective;
use crate::pass::{NoTap, Pass};
use crate::site::Site;

/// The mean over `batches` of [`objective::imitation`]'s gradient with respect to each site's weight,
/// `[out, in]` each, without dropout; empty where there is no batch.
///
/// It is computed on a copy of the policy, one batch at a time; the policy itself stays frozen.
pub fn mean_gradients(
    policy: &DecisionTransformer,
    sites: &[Site],
    batches: impl IntoIterator<Item = Inputs>,
) -> BTreeMap<Site, Tensor> {
    let no_adapters = AdapterSet::default();
    let copy = tch::no_grad(|| policy.merged(&no_adapters));
    let weight = |site: Site| copy.weights()[&format!("{site}.weight")].shallow_clone();
    for &site in sites {
        let _ = weight(site).requires_grad_(true);
    }
    let mut seen = 0;
    for inputs in batches {
        let pass = &mut Pass { adapters: &no_adapters, tap: &mut NoTap, train: false, mixed: false };
        objective::imitation(&copy, pass, &inputs).backward(); // adds to the batches' before it
        seen += 1;
    }
    if seen == 0 {
        return BTreeMap::new();
    }
    let mean = |site: Site| {
        let gradient = weight(site).grad(); // undefined where the loss does not reach
        let sum = if gradient.defined() { gradient } else { weight(site).detach().zeros_like() };
        let turned = if site.fan_in_fan_out() { sum.tr() } else { sum };
        turned / f64::from(seen)
    };
    sites.iter().map(|site| (*site, mean(*site))).collect()
}
