//! Low-rank adapters (LoRA, arXiv 2106.09685): `h = W x + s·B A x`, and the set of them that a pass carries.

pub mod site;

mod checkpoint;
mod error;
mod lora;
mod options;
mod peft;
mod set;
mod subspace;

pub use checkpoint::BadState;
pub use error::AdapterError;
pub use lora::{Lora, Rank, Scaling, ZeroRank, from_down, lora, row_norms};
pub use options::{BadOption, LoraOptions, OptionChecks, RunSize};
pub use peft::{AdapterFolder, Origin, fingerprint};
pub use set::AdapterSet;
pub use subspace::{angle_between, effective_rank, share_within};
