//! Policy folders in Hugging Face's format: `config.json`, and weights in safetensors or PyTorch's format,
//! whole or in shards.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tch::{Device, Tensor};

use super::config::{BadField, PolicyConfig};
use super::decision_transformer::DecisionTransformer;
use super::statistics::Origin;
use super::{statistics, weights};
use crate::in_words;
use crate::tensor_file::{self, TensorFile, TensorFileError};

/// Why a policy cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each variant's sentence says what its fields are
pub enum PolicyError {
    #[error("cannot read {path:?}: {reason}")]
    Read { path: PathBuf, reason: String },

    #[error("cannot write {path:?}: {reason}")]
    Write { path: PathBuf, reason: String },

    #[error("{path:?} does not describe a decision transformer: {reason}")]
    Parse { path: PathBuf, reason: String },

    #[error("in {path:?}, {source}")]
    Field { path: PathBuf, source: BadField },

    #[error(transparent)]
    Tensors(#[from] TensorFileError),

    #[error("{path:?} lacks `{name}`, which its config asks for with shape {expected:?}")]
    Missing { path: PathBuf, name: String, expected: Vec<i64> },

    #[error("{path:?} holds `{name}`, which its config does not ask for")]
    Unexpected { path: PathBuf, name: String },

    #[error("{path:?} holds `{name}` with shape {found:?}, and its config asks for {expected:?}")]
    Shape { path: PathBuf, name: String, expected: Vec<i64>, found: Vec<i64> },
}

/// Reads a policy onto `device`, frozen; `given` is a file of statistics that the user names.
pub fn read(folder: &Path, given: Option<&Path>, device: Device) -> Result<DecisionTransformer, PolicyError> {
    let config = read_config(folder, given)?;
    read_weights(config, TensorFile::find(folder, "model", "pytorch_model")?, device)
}

/// The same of weights in a file of any name, beside which `config.json` lies.
pub fn read_file(
    path: &Path,
    given: Option<&Path>,
    device: Device,
) -> Result<DecisionTransformer, PolicyError> {
    let file = TensorFile::open(path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    if !folder.join("config.json").is_file() {
        let reason = "it is a state dict, and no config.json lies beside it to say of what sizes".to_owned();
        return Err(PolicyError::Read { path: path.to_owned(), reason });
    }
    read_weights(read_config(folder, given)?, file, device)
}

fn read_config(folder: &Path, given: Option<&Path>) -> Result<PolicyConfig, PolicyError> {
    let path = folder.join("config.json");
    let mut table = statistics::read_table(&path)?;
    let origin = statistics::complete(&mut table, folder, given)?;
    parse_config(table, &path, origin)
}

/// The policy of a config with the weights of a file.
fn read_weights(
    config: PolicyConfig,
    file: TensorFile,
    device: Device,
) -> Result<DecisionTransformer, PolicyError> {
    let file = file.without_prefix("embed_timestep.weight");
    let path = file.path().to_owned();
    let layout = weights::layout(&config);
    for (name, expected, _) in &layout {
        match file.shape(name) {
            Some(found) if found == expected => {}
            Some(found) => {
                let (name, expected, found) = (name.clone(), expected.clone(), found.to_owned());
                return Err(PolicyError::Shape { path, name, expected, found });
            }
            None => {
                return Err(PolicyError::Missing { path, name: name.clone(), expected: expected.clone() });
            }
        }
    }
    let asked = |name: &str| layout.iter().any(|(asked, _, _)| asked == name);
    let mut ignored = Vec::new();
    for name in file.names().filter(|name| !asked(name) && !weights::is_mask_buffer(name)) {
        if weights::is_own(name) {
            return Err(PolicyError::Unexpected { path, name: name.to_owned() });
        }
        ignored.push(name.to_owned());
    }
    let mut kept = BTreeMap::new();
    for (name, _, _) in layout {
        let tensor = file.read_weight(&name, device)?;
        kept.insert(name, tensor);
    }
    Ok(DecisionTransformer::from_weights(PolicyConfig { ignored, ..config }, kept))
}

/// The config in `table`, checked; `origin` says which of its keys are from another file than `path`.
pub(super) fn parse_config(
    mut table: Map<String, Value>,
    path: &Path,
    origin: Origin,
) -> Result<PolicyConfig, PolicyError> {
    let parse = |path: &Path, reason: String| PolicyError::Parse { path: path.to_owned(), reason };
    for (alias, name) in ALIASES {
        if let Some(value) = table.remove(alias)
            && *table.entry(name).or_insert_with(|| value.clone()) != value
        {
            return Err(parse(path, format!("`{alias}` and `{name}` are the same size, and they differ")));
        }
    }
    let mut config: PolicyConfig =
        serde_path_to_error::deserialize(Value::Object(table)).map_err(|error| {
            let key = error.path().to_string();
            let whose = origin.file_of(&key, path);
            parse(whose, format!("`{key}`: {}", in_words(error.inner())))
        })?;
    config.check().map_err(|source| {
        let path = origin.file_of(source.key, path).to_owned();
        PolicyError::Field { path, source }
    })?;
    config.statistics_from = origin.source;
    Ok(config)
}

/// Other names of transformers' for its own fields.
const ALIASES: [(&str, &str); 3] = [
    ("max_position_embeddings", "n_positions"),
    ("num_attention_heads", "n_head"),
    ("num_hidden_layers", "n_layer"),
];

/// Writes a policy into `folder`, which exists.
pub fn write(policy: &DecisionTransformer, folder: &Path) -> Result<(), PolicyError> {
    let path = folder.join("config.json");
    let text = serde_json::to_string_pretty(policy.config()).expect("a config can be written as JSON");
    fs::write(&path, text + "\n").map_err(|error| PolicyError::Write { path, reason: error.to_string() })?;

    let path = folder.join("model.safetensors");
    let tensors: Vec<(String, Tensor)> =
        policy.weights().iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    tensor_file::write(&tensors, &path)
        .map_err(|error| PolicyError::Write { path, reason: error.to_string() })
}
