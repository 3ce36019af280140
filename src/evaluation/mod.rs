//! Evaluations, and videos of their episodes.

pub mod video;

mod episodes;

pub use episodes::*;
