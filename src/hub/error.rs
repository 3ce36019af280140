//! Why something of the Hub cannot be had.

use crate::support::errors::InputError;

/// Why something of the Hub cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// For the user to correct: a wrong name, a right that is lacking, a cache that lacks something.
    #[error("{0}")]
    Input(String),

    /// The server cannot be reached at present.
    #[error("cannot reach {server}: {reason}")]
    Unreachable { server: String, reason: String },

    /// The server says what it should not, or the disk does not take it.
    #[error("{0}")]
    Failed(String),
}

impl HubError {
    /// The same for a command to end with.
    pub fn for_command(self) -> anyhow::Error {
        match self {
            Self::Input(text) => InputError(text).into(),
            other => other.into(),
        }
    }
}
