//! Why an adapter cannot be read or written.

use std::path::PathBuf;

use super::site::ModuleName;
use crate::tensor::file::TensorFileError;

/// Why an adapter folder cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each variant's sentence says what its fields are
pub enum AdapterError {
    #[error("cannot read {path:?}: {reason}")]
    Read { path: PathBuf, reason: String },

    #[error("cannot write {path:?}: {reason}")]
    Write { path: PathBuf, reason: String },

    #[error("{path:?} has `{key}` = {found}, expected {wanted}")]
    Config { path: PathBuf, key: &'static str, found: String, wanted: String },

    #[error(transparent)]
    Tensors(#[from] TensorFileError),

    #[error("{path:?} holds `{name}`, which {reason}")]
    Tensor { path: PathBuf, name: String, reason: String },

    #[error(
        "{path:?} adapts {module} with shapes {down:?} and {up:?}, and this policy's module is {input} → {output}"
    )]
    Shape { path: PathBuf, module: ModuleName, down: Vec<i64>, up: Vec<i64>, input: i64, output: i64 },

    #[error("{path:?} replaces `{name}` with shape {found:?}, and this policy has {wanted}")]
    Replaced { path: PathBuf, name: String, found: Vec<i64>, wanted: String },

    #[error(
        "{path:?} was made for the policy with fingerprint {found} ({base:?}), and this one has {wanted}"
    )]
    OtherBase { path: PathBuf, base: String, found: String, wanted: String },
}
