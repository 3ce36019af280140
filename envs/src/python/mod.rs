//! Environments of EnvPool and Gymnasium, in Python worker processes.
//!
//! A worker hosts some rows of a batch. Commands of one byte go over a socket, numbers through memory
//! that both sides share; nothing of Python is linked into this process, and a worker's crash is not
//! ours. `worker.py` is the other side.

mod library;
mod settings;

pub use library::is_bridged;
pub use settings::BridgeSettings;

/// Workers use Linux's sealed memory, process descriptors and signals of closed pipes.
#[cfg(all(feature = "python", target_os = "linux"))]
mod atari_scores;
#[cfg(all(feature = "python", target_os = "linux"))]
mod env_contract;
#[cfg(all(feature = "python", target_os = "linux"))]
mod expert;
#[cfg(all(feature = "python", target_os = "linux"))]
mod extras;
#[cfg(all(feature = "python", target_os = "linux"))]
mod fork_server;
#[cfg(all(feature = "python", target_os = "linux"))]
mod interpreter;
#[cfg(all(feature = "python", target_os = "linux"))]
mod pool;
#[cfg(all(feature = "python", target_os = "linux"))]
mod process;
#[cfg(all(feature = "python", target_os = "linux"))]
mod shared_buffer;
#[cfg(all(feature = "python", target_os = "linux"))]
pub(crate) use {
    expert::{expert, has_bot},
    pool::pool,
};

#[cfg(not(all(feature = "python", target_os = "linux")))]
mod absent;
#[cfg(not(all(feature = "python", target_os = "linux")))]
pub(crate) use absent::{expert, has_bot, pool};
