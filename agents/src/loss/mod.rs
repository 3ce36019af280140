//! What training minimises.

pub mod clipped_normal;

mod behaviour_cloning;
mod gspo;
mod next_observation;
mod online_dt;
mod rows;
mod td3_critics;

pub use behaviour_cloning::behaviour_cloning;
pub use gspo::{PolicyGradient, sequence_policy_gradient};
pub use next_observation::next_observation;
pub use online_dt::{OnlineLoss, START_STD_RANGE, Spread, StochasticHead, restore};
pub use td3_critics::{CriticShape, TwinCritics, polyak_update};
