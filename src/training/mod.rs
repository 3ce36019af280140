//! Training: what a run reads, its loop, and each online algorithm.

mod adapter_init;
mod inputs;
mod job;
mod new_policy;
mod online;
mod session;

pub use adapter_init::{TaskWindows, check_tokens, restore_adapters};
pub use inputs::{TrainInputs, read_inputs};
pub use job::train;
