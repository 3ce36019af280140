//! Training without adapters: the whole policy, or the action head alone, which adapters must beat.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::eva::Progress;
use super::method::{AdapterMethod, InitError, Initialised, TaskData, WithDefaults};
use crate::adapter::site::Site;
use crate::adapter::{AdapterSet, LoraOptions};
use crate::model::TransformerPolicy;

/// Every weight of the policy is trained; there is nothing to set.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FullFineTuning {}

impl WithDefaults for FullFineTuning {
    fn with_defaults(_: LoraOptions, _: usize) -> Self {
        Self {}
    }
}

impl AdapterMethod for FullFineTuning {
    fn name(&self) -> String {
        "full fine-tuning".to_owned()
    }

    fn initialise(
        &self,
        _: &TransformerPolicy,
        _: &[Site],
        _: &mut dyn TaskData,
        _: &mut dyn FnMut(Progress),
    ) -> Result<Initialised, InitError> {
        Ok(Initialised { adapters: None, eva: None })
    }
}

/// The action head is trained; there is nothing to set.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeadOnly {}

impl WithDefaults for HeadOnly {
    fn with_defaults(_: LoraOptions, _: usize) -> Self {
        Self {}
    }
}

impl AdapterMethod for HeadOnly {
    fn name(&self) -> String {
        "head only".to_owned()
    }

    fn initialise(
        &self,
        policy: &TransformerPolicy,
        _: &[Site],
        _: &mut dyn TaskData,
        _: &mut dyn FnMut(Progress),
    ) -> Result<Initialised, InitError> {
        Ok(Initialised { adapters: Some(head_only(policy)), eva: None })
    }
}

/// Trainable copies of the action head's weight and bias in place of the policy's own, and no adapters.
///
/// A policy computes with them after [`TransformerPolicy::with_replaced`]. Their folder holds PEFT's
/// `modules_to_save` alone.
pub fn head_only(policy: &TransformerPolicy) -> AdapterSet {
    let mut adapters = AdapterSet::default();
    for part in ["weight", "bias"] {
        let name = format!("{}.{part}", policy.action_module());
        let tensor = policy.weights()[&name].detach().copy().set_requires_grad(true);
        adapters.replaced.insert(name, tensor);
    }
    adapters
}
