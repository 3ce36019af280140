//! A policy of either kind, for acting.

use std::path::Path;

use tch::{Device, Tensor};

use super::error::PolicyError;
use super::folder::{self, Given};
use super::torch_script::{ScriptError, TorchScript};
use crate::model::core::bad_field::BadField;
use crate::model::core::config::PolicyConfig;
use crate::model::core::forward::ForwardContext;
use crate::model::core::inputs::Inputs;
use crate::model::core::spaces::Spaces;
use crate::model::heads;
use crate::model::policy::transformer::TransformerPolicy;
use crate::tensor::file::TensorFile;

/// Anything that chooses actions from windows.
#[derive(Debug)]
pub enum Policy {
    /// A transformer of a family that this program knows.
    Transformer(TransformerPolicy),
    /// A module whose code is its own.
    TorchScript(TorchScript),
}

impl Policy {
    /// Reads a policy folder, a folder with a `model.pt`, or a file: a TorchScript module, or a state dict beside its
    /// `config.json`.
    pub fn read(path: &Path, given: Given, device: Device) -> Result<Self, PolicyError> {
        let script = path.join("model.pt");
        let file = if script.is_file() { script } else { path.to_owned() };
        if TensorFile::is_torch_script(&file) {
            return TorchScript::read(&file, given.statistics, device).map(Self::TorchScript);
        }
        if file.is_file() {
            return folder::read_file(&file, given, device).map(Self::Transformer);
        }
        folder::read(path, given, device).map(Self::Transformer)
    }

    /// What `config.json` says.
    pub fn config(&self) -> &PolicyConfig {
        match self {
            Self::Transformer(policy) => policy.config(),
            Self::TorchScript(script) => script.config(),
        }
    }

    /// The same, to say otherwise how the policy is used.
    pub fn config_mut(&mut self) -> &mut PolicyConfig {
        match self {
            Self::Transformer(policy) => policy.config_mut(),
            Self::TorchScript(script) => script.config_mut(),
        }
    }

    /// Whether it can read images.
    pub fn reads_images(&self) -> bool {
        match self {
            Self::Transformer(policy) => policy.reads_images(),
            Self::TorchScript(script) => script.config().image_shape.is_some(),
        }
    }

    /// The policy for an environment of these spaces, where its family serves any; as it is where not.
    pub fn fitted(self, spaces: &Spaces) -> Result<Self, BadField> {
        Ok(match self {
            Self::Transformer(policy) => Self::Transformer(policy.fitted(spaces)?),
            script @ Self::TorchScript(_) => script,
        })
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        match self {
            Self::Transformer(policy) => policy.device(),
            Self::TorchScript(script) => script.device(),
        }
    }

    /// The mode of the action distribution at each window's last step: `[B, A]` in [−1, 1], or `[B, 1]` indices.
    pub fn act(&self, inputs: &Inputs) -> Result<Tensor, ScriptError> {
        match self {
            Self::Transformer(policy) => {
                let encoded = policy.encode_for_acting(inputs); // [B, D]
                let head = policy.action_head(&mut ForwardContext::bare(), &encoded); // [B, A] or [B, A · bins]
                Ok(heads::mode(policy.config(), &head))
            }
            Self::TorchScript(script) => script.act(inputs),
        }
    }
}
