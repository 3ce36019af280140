//! What every part of a policy is made with: configs, inputs, layers, and the context of a forward pass.

pub mod bad_field;
pub mod bins;
pub mod conditioning;
pub mod config;
pub mod forward;
pub mod fused_lora;
pub mod grid;
pub mod inputs;
pub mod layers;
pub mod spaces;
pub mod statistics;
pub mod tasks;
pub mod texts;
pub mod tokenizer;
pub mod tokens;
pub mod vocabulary;
pub mod weights;

mod task_choice;
