//! The folder of one run: its config, its checkpoints, its best policy, its model card.

pub mod hub_card;
pub mod model_card;

mod files;
mod folder;
mod replay_state;

pub use files::FILES;
pub use folder::{Checkpoint, RunDir, RunState, Torn, Writer};
pub use replay_state::{replay_state, restore_replay, shard_lengths};
