//! The libraries that host environments in Python.

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
