//! Offline trajectories: Minari datasets, the replay that updates draw from, windows for the policy.

mod minari;
mod minari_write;
mod numbers;
mod replay;
mod trajectory;
mod windows;

pub use minari::read;
pub use minari_write::write;
pub use replay::Replay;
pub use trajectory::{Dataset, Trajectory, observation_moments};
pub use windows::{Step, Windows};
