//! Encoders of what a policy reads: one token for each part of a step.

mod steps;

pub use steps::{Positions, StepEncoder};
