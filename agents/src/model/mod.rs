//! Policies: encoders of what they read, a transformer trunk, action heads, and one file a family that says which
//! of these it takes and how its files name them.
//!
//! A new family is a file in `families/` and a line in its table.

pub mod heads;

mod core;
mod encoders;
mod families;
mod hub;
mod policy;
mod trunk;

pub use core::bad_field::BadField;
pub use core::conditioning::{Conditioning, MissingKeys, PreviousRows, Window};
pub use core::config::{ActionKind, Activation, ImageNetwork, PolicyConfig, StatisticsSource};
pub use core::forward::{ForwardContext, Tap};
pub use core::fused_lora::{FusedLora, FusedOutput};
pub use core::grid::{Grid, GridPlace, Symbols};
pub use core::inputs::{Inputs, Predictions, Previous};
pub use core::layers;
pub use core::spaces::Spaces;
pub use core::statistics::Statistics;
pub use core::tasks::{Task, Tasks};
pub use core::texts::TextReading;
pub use core::tokenizer::TokenizerFiles;
pub use core::tokens::Token;
pub use core::vocabulary::{UnknownText, Vocabulary};
pub use families::{ActionIds, check as check_config, new_config, new_l2m_config, new_lram_config};
pub use hub::{
    Given, Policy, PolicyError, ScriptError, ScriptPredictions, TorchScript, read, read_file, write,
};
pub use policy::embedded_images::EmbeddedImages;
pub use policy::embedding_cache::EmbeddingCache;
pub use policy::sliding::SlidingWindows;
pub use policy::transformer::TransformerPolicy;
pub use trunk::{Cache, cached_context_len, resets_context};
