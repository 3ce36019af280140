//! Environments of EnvPool and Gymnasium, in Python worker processes.
//!
//! A worker hosts some rows of a batch. Commands of one byte go over a socket, numbers through memory
//! that both sides share; nothing of Python is linked into this process, and a worker's crash is not
//! ours. `worker.py` is the other side.

mod contract;
mod expert;
mod failure;
mod nursery;
mod pool;
mod process;
mod python;
mod region;
mod settings;

pub(crate) use expert::expert;
pub use failure::{Failure, Incident};
pub(crate) use pool::pool;
pub use settings::BridgeSettings;

use serde::Serialize;

/// What hosts an environment in Python, by the prefix of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Library {
    EnvPool,
    Gymnasium,
}

/// The library and the id that it knows, of an id such as `envpool:MetaWorld/Reach-v3`.
pub(crate) fn split(id: &str) -> Option<(Library, &str)> {
    match id.split_once(':')? {
        ("envpool", inner) => Some((Library::EnvPool, inner)),
        ("gymnasium", inner) => Some((Library::Gymnasium, inner)),
        _ => None,
    }
}

/// Whether an id names an environment that a Python worker hosts.
pub fn is_bridged(id: &str) -> bool {
    split(id).is_some()
}
