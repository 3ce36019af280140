//! Whole episodes in a batch of environments, by anything that acts.
//!
//! A batch of two halves is played by two threads, each with an actor of its own: while one waits for its
//! environments the other computes, and neither waits for the other. The halves are always the same, so
//! nothing that is played depends on how many threads there are.

mod actor;
mod actors;
mod histories;
mod inference;
mod play;
mod policy;
mod selection;
mod window_builder;
mod worker;

pub use actor::{ActiveEpisode, Actor};
pub use actors::{ExpertActor, NoisyActor, RandomActor, ScriptedActor, draw_uniform};
pub use histories::{Histories, Prompt};
pub use inference::Inference;
pub use play::{RolloutResult, gather_episodes, make_part, play, play_groups, play_into};
pub use policy::PolicyActor;
pub use selection::{ActionSelection, Actions};
