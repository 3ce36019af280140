//! Batches of native tasks on rayon's threads, and batches that are two halves.

mod halves;
mod tasks;

pub use halves::Halves;
pub use tasks::TaskPool;
