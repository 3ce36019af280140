//! What the rest computes with: tensors in rows, dropout's masks, threads, and files of named tensors.

pub mod file;
pub mod shapes;

mod cyclic;
mod dropout;
mod patches;
mod rows;
mod threads;

pub use cyclic::cyclic;
pub use dropout::dropout;
pub use patches::Patches;
pub use rows::{Rows, low_rank_product};
pub(crate) use threads::side_by_side;
