//! Encoders of what a policy reads: a token for each part of a step, or one for all of it.

mod dimensions;
mod encoder;
mod gate;
mod ids;
mod image;
mod observation;
mod steps;
mod text;
mod transition;

pub use dimensions::{ActionTokens, DimensionEncoder, StateEmbedding};
pub use encoder::Encoder;
pub use gate::{Gate, normalised_leaky};
pub use ids::IdsEncoder;
pub use image::{ImageEncoder, SYMBOL_WIDTH, SYMBOLS};
pub use observation::ObservationEncoder;
pub use steps::{Embedding, Positions, StepEncoder, Timesteps, TokenEncoder};
pub use text::TextEncoder;
pub use transition::{NormedLayer, TransitionEncoder};
