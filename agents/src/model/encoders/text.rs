//! Texts of few words, such as BabyAI's missions: a vector per word and place, and the sum of what a layer makes of
//! them, divided by the root of how many there are.

use tch::{Kind, Tensor};

use crate::model::core::forward::ForwardContext;
use crate::model::core::layers::{Module, look_up};

/// Embeds the words of a text.
#[derive(Debug)]
pub struct TextEncoder {
    /// `[words + 1, D]`; row 0 is what stands where a text has ended.
    pub words: Tensor,
    /// `[longest text, D]`.
    pub places: Tensor,
    /// D → D of a word in its place, before max(0, x) and the sum over the words.
    pub hidden: Module,
    /// D → D of that sum.
    pub projection: Module,
}

impl TextEncoder {
    /// Numbers of words, 0 where a text has ended, `[B, T, L]` → `[B, T, D]`.
    pub fn forward(&self, context: &mut ForwardContext, words: &Tensor) -> Tensor {
        let there = words.ge(1).to_kind(Kind::Float).unsqueeze(-1); // [B, T, L, 1]
        let x = look_up(&self.words, words) + &self.places; // [B, T, L, D]
        let x = context.project(&self.hidden, &x).relu() * &there;
        let count = there.sum_dim_intlist(2, false, Kind::Float).clamp_min(1.0); // [B, T, 1]
        let sum = x.sum_dim_intlist(2, false, Kind::Float) / count.sqrt(); // [B, T, D]
        context.project(&self.projection, &sum)
    }
}
