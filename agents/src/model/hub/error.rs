//! Why a policy cannot be read or written.

use std::path::PathBuf;

use crate::model::core::bad_field::BadField;
use crate::tensor::file::TensorFileError;

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
