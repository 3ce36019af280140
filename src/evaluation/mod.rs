//! Evaluations, and videos of their episodes.

pub mod video;

mod episodes;
mod reproduction;
mod target_sweep;

pub use episodes::*;
pub use reproduction::{ActionFit, ObservationFit, Reproduction};
pub use target_sweep::TargetSweep;
