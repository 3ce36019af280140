//! Gymnasium's spaces as data, for native tasks, Python workers and datasets alike.

mod types;

mod json;
mod leaves;
mod name;
mod parts;
#[cfg(test)]
mod tests;

pub use leaves::Leaf;
pub use parts::{ImageLeaf, Part, PartKind};
pub use types::{Bound, Space};
