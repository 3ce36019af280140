//! Encoders of what a policy reads: one token for each part of a step.

mod image;
mod steps;

pub use image::ImageEncoder;
pub use steps::{Embedding, Positions, StepEncoder, Timesteps, TokenEncoder};
