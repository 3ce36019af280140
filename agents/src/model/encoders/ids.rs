//! Observations that are ids of a vocabulary, such as a grid's symbols beside the words of a mission.

use tch::{Kind, Tensor};

use crate::model::core::forward::ForwardContext;
use crate::model::core::layers::{Module, look_up};

/// Embeds a vector of ids, and the reward beside it.
#[derive(Debug)]
pub struct IdsEncoder {
    /// `[vocabulary, D]`.
    pub table: Tensor,
    /// Of each id: D → m, before max(0, x).
    pub hidden: Module,
    /// Of all of them: S · m → D − 1.
    pub projection: Module,
}

impl IdsEncoder {
    /// Ids as numbers `[B, T, S]`, and rewards `[B, T, 1]`, which are the last coordinate: `[B, T, D]`.
    pub fn forward(&self, context: &mut ForwardContext, ids: &Tensor, rewards: &Tensor) -> Tensor {
        let ids = ids.to_kind(Kind::Int64);
        let x = look_up(&self.table, &ids); // [B, T, S, D]
        let x = context.project(&self.hidden, &x).relu().flatten(2, -1); // [B, T, S·m]
        Tensor::cat(&[context.project(&self.projection, &x), rewards.shallow_clone()], -1)
    }
}
