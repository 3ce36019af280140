//! A policy of either kind, for acting.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::bins;
use super::config::{ActionKind, PolicyConfig};
use super::decision_transformer::{DecisionTransformer, Inputs};
use super::folder::{self, PolicyError};
use super::torch_script::{ScriptError, TorchScript};
use crate::adapter::AdapterSet;
use crate::pass::{NoTap, Pass};
use crate::tensor_file::TensorFile;

/// Anything that chooses actions from windows.
#[derive(Debug)]
pub enum Policy {
    /// A decision transformer whose maps this program knows.
    Transformer(DecisionTransformer),
    /// A module whose code is its own.
    TorchScript(TorchScript),
}

impl Policy {
    /// Reads a policy folder, a folder with a `model.pt`, or a file: a TorchScript module, or a state dict beside its
    /// `config.json`. `given` is a file of statistics.
    pub fn read(path: &Path, given: Option<&Path>, device: Device) -> Result<Self, PolicyError> {
        let script = path.join("model.pt");
        let file = if script.is_file() { script } else { path.to_owned() };
        if TensorFile::is_torch_script(&file) {
            return TorchScript::read(&file, given, device).map(Self::TorchScript);
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

    /// Where it computes.
    pub fn device(&self) -> Device {
        match self {
            Self::Transformer(policy) => policy.device(),
            Self::TorchScript(script) => script.device(),
        }
    }

    /// The likeliest action of each window's last step: `[B, A]` in [−1, 1], or `[B, 1]` indices.
    pub fn act(&self, inputs: &Inputs) -> Result<Tensor, ScriptError> {
        match self {
            Self::Transformer(policy) => {
                let no_adapters = AdapterSet::default();
                let pass = &mut Pass { adapters: &no_adapters, tap: &mut NoTap, train: false, mixed: false };
                let head = policy.action_head(pass, &policy.encode_for_acting(inputs)); // [B, A] or [B, A · bins]
                Ok(likeliest(policy.config(), &head))
            }
            Self::TorchScript(script) => script.act(inputs),
        }
    }
}

/// The mean action of each row of head outputs, which has a gradient: `[…, A]`, or `[…, A · bins]` where
/// actions are binned → `[…, A]` in [−1, 1], or the probabilities of discrete actions.
pub fn mean(config: &PolicyConfig, head: &Tensor) -> Tensor {
    match config.action_kind {
        ActionKind::Discrete => head.softmax(-1, Kind::Float),
        ActionKind::Binned => bins::mean(&bins::split(head, config.act_dim)),
        ActionKind::Continuous => likeliest(config, head),
    }
}

/// The likeliest action of each row of head outputs: `[B, A]`, or `[B, A · bins]` where actions are
/// binned → `[B, A]` in [−1, 1], or `[B, 1]` indices.
pub fn likeliest(config: &PolicyConfig, head: &Tensor) -> Tensor {
    match config.action_kind {
        ActionKind::Continuous if config.action_tanh => head.tanh(),
        ActionKind::Continuous => head.clamp(-1.0, 1.0),
        ActionKind::Discrete => head.argmax(-1, true).to_kind(Kind::Float),
        ActionKind::Binned => bins::likeliest(&bins::split(head, config.act_dim)),
    }
}
