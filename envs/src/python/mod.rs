//! Environments of EnvPool and Gymnasium, in Python worker processes.
//!
//! A worker hosts some rows of a batch. Commands of one byte go over a socket, numbers through memory
//! that both sides share; nothing of Python is linked into this process, and a worker's crash is not
//! ours. `worker.py` is the other side.

mod env_contract;
mod expert;
mod fork_server;
mod interpreter;
mod library;
mod pool;
mod process;
mod settings;
mod shared_buffer;

pub(crate) use expert::expert;
pub use library::is_bridged;
pub(crate) use pool::pool;
pub use settings::BridgeSettings;
