//! Decision transformers, adapters, EVA, losses and optimisers: tensors, and no environments.
//!
//! | module | what it holds |
//! |---|---|
//! | [`tensor`] | rows of tensors, files of named tensors |
//! | [`pca`] | principal components of rows that arrive in batches |
//! | [`adapter`] | LoRA adapters, sets of them, PEFT's folders |
//! | [`model`] | policies: encoders, transformer trunk, action heads, families, their files |
//! | [`adapter_init`] | adapter initialisation: EVA and other methods |
//! | [`loss`] | what training minimises |
//! | [`optimiser`] | AdamW and LAMB, learning-rate schedules |
//! | [`ranks`] | processes that share one computation |

pub mod adapter;
pub mod adapter_init;
pub mod loss;
pub mod model;
pub mod optimiser;
pub mod pca;
pub mod ranks;
pub mod tensor;

mod text;

pub use text::{first_line, in_words, read_text};
