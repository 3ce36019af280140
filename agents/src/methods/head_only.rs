//! Training the action head alone: what adapters must beat to be worth their name.

use crate::adapter::AdapterSet;
use crate::model::DecisionTransformer;
use crate::site::{Head, Site};

/// Trainable copies of the action head's weight and bias in place of the policy's own, and no adapters.
///
/// A policy computes with them after [`DecisionTransformer::with_replaced`]. Their folder holds PEFT's
/// `modules_to_save` alone.
pub fn head_only(policy: &DecisionTransformer) -> AdapterSet {
    let mut adapters = AdapterSet::default();
    for part in ["weight", "bias"] {
        let name = format!("{}.{part}", Site::Predict(Head::Action));
        let tensor = policy.weights()[&name].detach().copy().set_requires_grad(true);
        adapters.replaced.insert(name, tensor);
    }
    adapters
}
