//! Offline trajectories: Minari datasets, D4RL's files, the replay that updates draw from, windows for the policy.

mod activations;
mod checks;
mod d4rl;
mod frames;
mod images;
mod metadata;
mod minari;
mod minari_episode;
mod minari_observations;
mod minari_space;
mod minari_write;
mod named;
mod numbers;
mod packed;
mod reading;
mod replay;
mod spool;
mod stored;
#[cfg(test)]
pub mod testing;
pub mod texts;
mod trajectory;
mod windows;

pub use activations::Activations;
pub use d4rl::D4rl;
pub use frames::Frames;
pub use images::Images;
#[cfg(test)]
pub use minari_write::write;
pub use minari_write::{DatasetFacts, RecordedEnv, write_episodes};
pub use named::read_named;
pub use packed::{pack, pack_list, pack_outcome, unpack, unpack_list, unpack_outcome};
pub use reading::{OnBadEpisode, Reading};
pub use replay::Replay;
pub use spool::Spool;
pub use trajectory::{Dataset, Outcome, Trajectory, greatest_return, observation_moments};
pub use windows::{Step, Windows};
