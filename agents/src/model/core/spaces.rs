//! What an environment shows and takes, for policies that serve any.

use super::config::ActionKind;
use super::grid::GridPlace;

/// Observations and actions of an environment, or of data.
#[derive(Clone, Debug, PartialEq)]
pub struct Spaces {
    /// Numbers of an observation, its image aside.
    pub numbers: i64,
    /// Whether these are ids of a vocabulary.
    pub ids: bool,
    /// Where they and its image are a direction, symbols and a mission.
    pub grid: Option<GridPlace>,
    /// Channels, height and width of its image.
    pub image: Option<[i64; 3]>,
    /// What an action is.
    pub action_kind: ActionKind,
    /// Width of an action, or the number of discrete actions.
    pub act_dim: i64,
}
