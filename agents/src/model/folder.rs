//! Policy folders in Hugging Face's format: `config.json` and `model.safetensors`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use super::config::{BadField, PolicyConfig};
use super::decision_transformer::DecisionTransformer;
use super::weights;

/// Why a policy folder cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each variant's sentence says what its fields are
pub enum PolicyError {
    #[error("cannot read {path:?}: {reason}")]
    Read { path: PathBuf, reason: String },

    #[error("cannot write {path:?}: {reason}")]
    Write { path: PathBuf, reason: String },

    #[error("{path:?} is no config of a decision transformer: {reason}")]
    Parse { path: PathBuf, reason: String },

    #[error("in {path:?}, {source}")]
    Field { path: PathBuf, source: BadField },

    #[error("{path:?} lacks `{name}`, which its config asks for with shape {expected:?}")]
    Missing { path: PathBuf, name: String, expected: Vec<i64> },

    #[error("{path:?} holds `{name}`, which its config does not ask for")]
    Unexpected { path: PathBuf, name: String },

    #[error("{path:?} holds `{name}` with shape {found:?}, and its config asks for {expected:?}")]
    Shape { path: PathBuf, name: String, expected: Vec<i64>, found: Vec<i64> },

    #[error("{path:?} holds NaN or infinity in `{name}`, and finite weights are wanted")]
    NotFinite { path: PathBuf, name: String },
}

/// Reads a policy onto `device`, frozen.
pub fn read(folder: &Path, device: Device) -> Result<DecisionTransformer, PolicyError> {
    let path = folder.join("config.json");
    let text = fs::read_to_string(&path)
        .map_err(|error| PolicyError::Read { path: path.clone(), reason: error.to_string() })?;
    let config: PolicyConfig = serde_json::from_str(&text)
        .map_err(|error| PolicyError::Parse { path: path.clone(), reason: error.to_string() })?;
    config.check().map_err(|source| PolicyError::Field { path, source })?;

    let path = folder.join("model.safetensors");
    let tensors = crate::safetensors::read(&path)
        .map_err(|error| PolicyError::Read { path: path.clone(), reason: crate::first_line(&error) })?;
    let mut found: BTreeMap<String, Tensor> = tensors.into_iter().collect();
    let mut kept = BTreeMap::new();
    for (name, expected, _) in weights::layout(&config) {
        let Some(tensor) = found.remove(&name) else {
            return Err(PolicyError::Missing { path, name, expected });
        };
        if tensor.size() != expected {
            return Err(PolicyError::Shape { path, name, expected, found: tensor.size() });
        }
        let tensor = tensor.to_kind(Kind::Float).to_device(device);
        if tensor.isfinite().all().int64_value(&[]) == 0 {
            return Err(PolicyError::NotFinite { path, name });
        }
        kept.insert(name, tensor);
    }
    if let Some(name) = found.into_keys().find(|name| !weights::is_mask_buffer(name)) {
        return Err(PolicyError::Unexpected { path, name });
    }
    Ok(DecisionTransformer::from_weights(config, kept))
}

/// Writes a policy into `folder`, which exists.
pub fn write(policy: &DecisionTransformer, folder: &Path) -> Result<(), PolicyError> {
    let path = folder.join("config.json");
    let text = serde_json::to_string_pretty(policy.config()).expect("a config can be written as JSON");
    fs::write(&path, text + "\n").map_err(|error| PolicyError::Write { path, reason: error.to_string() })?;

    let path = folder.join("model.safetensors");
    let tensors: Vec<(String, Tensor)> =
        policy.weights().iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    crate::safetensors::write(&tensors, &path)
        .map_err(|error| PolicyError::Write { path, reason: error.to_string() })
}
