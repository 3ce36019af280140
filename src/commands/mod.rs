//! The commands, one file each; a command is one function that reads from top to bottom.

pub mod bench;
pub mod collect;
pub mod completions;
pub mod convert;
pub mod envs;
pub mod eva;
mod eva_activations;
pub mod evaluate;
pub mod init;
pub mod inspect;
pub mod merge;
pub mod predict;
pub mod push;
pub mod report;
pub mod subspaces;
pub mod sweep;
pub mod train;
