//! The tokens that a step may have.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one token of a step holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Token {
    /// The return-to-go.
    Return,
    /// The state.
    State,
    /// The action.
    Action,
    /// The reward that the action earned.
    Reward,
}
