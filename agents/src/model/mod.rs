//! Decision transformers (arXiv 2106.01345) as Hugging Face's `DecisionTransformerModel` lays them out.

mod block;
mod conditioning;
mod config;
mod decision_transformer;
mod folder;
mod weights;

pub use conditioning::{Conditioning, MissingKey, Window};
pub use config::{ActionKind, Activation, BadField, PolicyConfig};
pub use decision_transformer::{DecisionTransformer, Inputs, Predictions};
pub use folder::{PolicyError, read, write};
