//! Decision transformers (arXiv 2106.01345) as Hugging Face's `DecisionTransformerModel` lays them out,
//! their relatives with other tokens and heads, and TorchScript modules that do the same work.

pub mod bins;
mod block;
mod cache;
mod conditioning;
mod config;
mod decision_transformer;
mod folder;
mod policy;
mod releases;
mod sliding;
mod statistics;
mod torch_script;
mod weights;

pub use cache::{Cache, begins_anew, cached_steps};
pub use conditioning::{Conditioning, MissingKeys, Window};
pub use config::{ActionKind, Activation, BadField, PolicyConfig, StatisticsSource};
pub use decision_transformer::{DecisionTransformer, Inputs, Predictions};
pub use folder::{PolicyError, read, write};
pub use policy::{Policy, likeliest};
pub use sliding::SlidingWindows;
pub use torch_script::{ScriptError, ScriptPredictions, TorchScript};
