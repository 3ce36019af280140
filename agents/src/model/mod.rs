//! Policies: encoders of what they read, a transformer trunk, action heads, and one file a family that says which
//! of these it takes and how its files name them.

pub mod heads;
pub mod layers;

mod acting;
mod conditioning;
mod config;
mod encoders;
mod families;
mod forward;
mod fused_lora;
mod hub;
mod inputs;
mod policy;
mod sliding;
mod tokens;
mod transformer;
mod trunk;
mod weights;

pub use conditioning::{Conditioning, MissingKeys, Window};
pub use config::{ActionKind, Activation, BadField, PolicyConfig, StatisticsSource};
pub use families::{check as check_config, new_config};
pub use forward::{ForwardContext, Tap};
pub use fused_lora::{FusedLora, FusedOutput};
pub use hub::{PolicyError, ScriptError, ScriptPredictions, TorchScript, read, write};
pub use inputs::{Inputs, Predictions};
pub use policy::Policy;
pub use sliding::SlidingWindows;
pub use tokens::Token;
pub use transformer::TransformerPolicy;
pub use trunk::{Cache, cached_context_len, resets_context};
