//! One pre-norm GPT-2 block: causal self-attention, then the feed-forward part.

use std::collections::BTreeMap;

use tch::Tensor;

use super::config::{Activation, PolicyConfig};
use crate::nn::{Conv1d, LayerNorm};
use crate::pass::Pass;
use crate::site::{Layer, Site};

/// One block of the transformer.
#[derive(Debug)]
pub struct Block {
    index: usize,
    before_attention: LayerNorm,
    attention_in: Conv1d,
    attention_out: Conv1d,
    before_mlp: LayerNorm,
    mlp_in: Conv1d,
    mlp_out: Conv1d,
    heads: i64,
    score_scale: f64,
    attention_dropout: f64,
    residual_dropout: f64,
    activation: Activation,
}

impl Block {
    /// The block that `weights` describe; every name is there, as `weights::layout` says.
    pub fn new(index: usize, config: &PolicyConfig, weights: &BTreeMap<String, Tensor>) -> Self {
        let tensor = |name: &str| weights[&format!("encoder.h.{index}.{name}")].shallow_clone();
        let norm = |name: &str| LayerNorm {
            weight: tensor(&format!("{name}.weight")),
            bias: tensor(&format!("{name}.bias")),
            epsilon: config.layer_norm_epsilon,
        };
        let map = |layer: Layer| Conv1d {
            weight: tensor(&format!("{}.weight", layer.module())),
            bias: tensor(&format!("{}.bias", layer.module())),
        };
        let head_width = (config.hidden_size / config.n_head) as f64;
        let by_width = if config.scale_attn_weights { head_width.sqrt().recip() } else { 1.0 };
        let by_depth = if config.scale_attn_by_inverse_layer_idx { index as f64 + 1.0 } else { 1.0 };
        Self {
            index,
            before_attention: norm("ln_1"),
            attention_in: map(Layer::AttentionIn),
            attention_out: map(Layer::AttentionOut),
            before_mlp: norm("ln_2"),
            mlp_in: map(Layer::MlpIn),
            mlp_out: map(Layer::MlpOut),
            heads: config.n_head,
            score_scale: by_width / by_depth,
            attention_dropout: config.attn_pdrop,
            residual_dropout: config.resid_pdrop,
            activation: config.activation_function,
        }
    }

    /// `x` `[B, K, D]` → `[B, K, D]`; `allowed` `[B, 1, K, K]` is false where a query may not look.
    pub fn forward(&self, pass: &mut Pass, x: &Tensor, allowed: &Tensor) -> Tensor {
        self.forward_from(pass, x, allowed, 0)
    }

    /// The same for the last token alone, which the earlier ones serve: `[B, K, D]` → `[B, 1, D]`.
    pub fn forward_last(&self, pass: &mut Pass, x: &Tensor, allowed: &Tensor) -> Tensor {
        let (_, tokens, _) = x.size3().expect("a block is given [B, K, D]");
        self.forward_from(pass, x, allowed, tokens - 1)
    }

    /// Tokens `first..K`: `[B, K, D]` → `[B, K − first, D]`.
    fn forward_from(&self, pass: &mut Pass, x: &Tensor, allowed: &Tensor, first: i64) -> Tensor {
        let attended = self.attend(pass, &self.before_attention.forward(x), allowed, first);
        let x = x.slice(1, first, None, 1) + attended.dropout(self.residual_dropout, pass.train);
        let fed = self.feed_forward(pass, &self.before_mlp.forward(&x)); // [B, K − first, D]
        x + fed.dropout(self.residual_dropout, pass.train)
    }

    /// `x` `[B, K, D]` → `[B, K − first, D]`, the queries of the tokens from `first` on.
    fn attend(&self, pass: &mut Pass, x: &Tensor, allowed: &Tensor, first: i64) -> Tensor {
        let (batch, tokens, width) = x.size3().expect("a block is given [B, K, D]");
        let joint = pass.project(self.site(Layer::AttentionIn), &self.attention_in, x); // [B, K, 3·D]
        let split = joint.view([batch, tokens, 3, self.heads, width / self.heads]).permute([2, 0, 3, 1, 4]);
        let (query, key, value) = (split.get(0), split.get(1), split.get(2)); // [B, H, K, D/H]
        let dropout = if pass.train { self.attention_dropout } else { 0.0 };
        let heads = Tensor::scaled_dot_product_attention(
            &query.slice(2, first, None, 1),
            &key,
            &value,
            Some(allowed.slice(2, first, None, 1)),
            dropout,
            false,
            self.score_scale,
            false,
        ); // [B, H, K − first, D/H]
        let joined = heads.transpose(1, 2).reshape([batch, tokens - first, width]);
        pass.project(self.site(Layer::AttentionOut), &self.attention_out, &joined)
    }

    /// `x` `[B, K, D]` → `[B, K, D]`.
    fn feed_forward(&self, pass: &mut Pass, x: &Tensor) -> Tensor {
        let wide = pass.project(self.site(Layer::MlpIn), &self.mlp_in, x); // [B, K, I]
        let wide = match self.activation {
            Activation::Relu => wide.relu(),
            Activation::Gelu => wide.gelu("none"),
            Activation::GeluNew => wide.gelu("tanh"),
            Activation::Silu => wide.silu(),
            Activation::Tanh => wide.tanh(),
        };
        pass.project(self.site(Layer::MlpOut), &self.mlp_out, &wide)
    }

    fn site(&self, layer: Layer) -> Site {
        Site { block: self.index, layer }
    }
}
