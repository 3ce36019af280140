//! Actions of the action head's outputs, by what an action is.

use tch::{Kind, Tensor};

use super::bins::{self, Bins};
use crate::model::core::config::{ActionKind, PolicyConfig};

/// The mean action of each row of head outputs, which has a gradient: `[…, A]`, or `[…, A · bins]` where
/// actions are binned → `[…, A]` in [−1, 1], or the probabilities of discrete actions.
pub fn mean(config: &PolicyConfig, head: &Tensor) -> Tensor {
    match config.action_kind {
        ActionKind::Discrete => head.softmax(-1, Kind::Float),
        ActionKind::Binned => Bins::of(config).mean(&bins::split(head, config.act_dim)),
        ActionKind::Continuous => mode(config, head),
    }
}

/// The mode of each row of head outputs: `[B, A]`, or `[B, A · bins]` where actions are
/// binned → `[B, A]` in [−1, 1] or of raw numbers, or `[B, 1]` indices.
pub fn mode(config: &PolicyConfig, head: &Tensor) -> Tensor {
    match config.action_kind {
        ActionKind::Continuous if config.action_tanh => head.tanh(),
        ActionKind::Continuous if config.raw_actions => head.shallow_clone(),
        ActionKind::Continuous => head.clamp(-1.0, 1.0),
        ActionKind::Discrete => head.argmax(-1, true).to_kind(Kind::Float),
        ActionKind::Binned => Bins::of(config).mode(&bins::split(head, config.act_dim)),
    }
}
