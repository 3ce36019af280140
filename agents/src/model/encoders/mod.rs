//! Encoders of what a policy reads: one token for each part of a step.

mod image;
mod observation;
mod steps;
mod text;

pub use image::{ImageEncoder, SYMBOL_WIDTH, SYMBOLS};
pub use observation::ObservationEncoder;
pub use steps::{Embedding, Positions, StepEncoder, Timesteps, TokenEncoder};
pub use text::TextEncoder;
