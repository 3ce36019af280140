//! What can be wrong with what a caller asks of an environment.

/// Why an environment cannot be made or stepped.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each variant's sentence says what its fields are
pub enum EnvError {
    #[error("unknown environment `{id}`; the nearest are {nearest}")]
    UnknownEnv { id: String, nearest: String },

    #[error("`{id}` has no option `{option}`; {known}")]
    UnknownOption { id: String, option: String, known: String },

    #[error("option `{option}` of `{id}` is {found}, and {wanted} is wanted")]
    Option { id: String, option: &'static str, found: String, wanted: &'static str },

    #[error("environment {env} was given action {found}, and a whole number in 0..{count} is wanted")]
    DiscreteAction { env: usize, found: f32, count: usize },

    #[error(
        "environment {env} was given {found} in dimension {dimension} of its action, and {low}..={high} is wanted"
    )]
    BoxAction { env: usize, dimension: usize, found: f32, low: f32, high: f32 },

    #[error("`{id}` has {what}, which a pool cannot hold")]
    Space { id: String, what: String },

    #[error("a pool of `{id}` was given no environments")]
    EmptyPool { id: String },
}
