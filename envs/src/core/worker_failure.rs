//! How a worker fails, and what is said about it.

use std::fmt;

/// What a worker did wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Failure {
    /// Its process is gone.
    #[error("its process {0}")]
    Died(String),

    /// It took too long.
    #[error("it did not answer within {secs} s")]
    Hung {
        /// What it was given.
        secs: f64,
    },

    /// It answered what cannot be.
    #[error("{0}")]
    Nonsense(String),

    /// Its Python code raised an error.
    #[error("{error}")]
    Raised {
        /// The last line of Python's traceback.
        error: String,
        /// The module that is not installed, if that is the error.
        package: Option<String>,
    },

    /// The system refused what a worker needs.
    #[error("{0}")]
    System(String),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::System(error.to_string())
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        Self::System(error.to_string())
    }
}

/// A worker that failed and was started again.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// The environment's id.
    pub id: String,
    /// Index of the worker in its batch.
    pub worker: usize,
    /// What it did.
    pub failure: Failure,
    /// Episodes that are reset.
    pub lost: usize,
    /// How often the worker has failed, this time included.
    pub failures: u32,
    /// How often it may.
    pub restarts: u32,
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, worker, failure, lost, failures, restarts } = self;
        write!(
            f,
            "worker {worker} of `{id}` failed: {failure}; it was started again ({failures} of {restarts} times), \
             and {lost} episodes are reset"
        )
    }
}
