//! One pre-norm GPT-2 block: causal self-attention, then the feed-forward part.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::cache::Growth;
use super::config::{Activation, PolicyConfig};
use crate::linalg::Rows;
use crate::nn::{LayerNorm, Linear};
use crate::pass::Pass;
use crate::site::{Layer, Site};

/// The map from a block's tokens to its keys and values alone: `[…, D]` → `[…, 2·D]`.
#[derive(Debug)]
pub struct KeysAndValues(Linear);

/// One block of the transformer.
#[derive(Debug)]
pub struct Block {
    index: usize,
    before_attention: LayerNorm,
    attention_in: Linear,
    attention_out: Linear,
    before_mlp: LayerNorm,
    mlp_in: Linear,
    mlp_out: Linear,
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
        let map = |layer: Layer| Linear {
            weight: tensor(&format!("{}.weight", layer.module())),
            bias: tensor(&format!("{}.bias", layer.module())),
            fan_in_fan_out: true,
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

    /// `x` `[B, K, D]` → `[B, Q, D]`; `bias` `[B, 1, K, K]` is added to attention scores, 0 where a query
    /// may look and −∞ where not.
    ///
    /// `wanted` `[Q]` are the tokens that are answered for, which every token serves; all where absent.
    pub fn forward(&self, pass: &mut Pass, x: &Tensor, bias: &Tensor, wanted: Option<&Tensor>) -> Tensor {
        let x = self.after_attention(pass, x, bias, wanted); // [B, Q, D]
        self.feed(pass, x)
    }

    /// The same for new tokens of contexts whose earlier ones `growth` remembers: `x` `[R, n, D]` → `[R, n, D]`,
    /// or `[R, 1, D]` where only the last one is answered for.
    pub fn advance(&self, pass: &mut Pass, x: &Tensor, growth: &mut Growth, only_last: bool) -> Tensor {
        let (rows, tokens, width) = x.size3().expect("a block is given [R, n, D]");
        let joint = pass.project(
            self.site(Layer::AttentionIn),
            &self.attention_in,
            &self.before_attention.forward(x),
        );
        let split = joint.view([rows, tokens, 3, self.heads, width / self.heads]).permute([2, 0, 3, 1, 4]);
        let (keys, values) = growth.remember(self.index, &split.get(1), &split.get(2)); // [R, H, L, D/H]
        let from = if only_last { tokens - 1 } else { 0 };
        let query = split.get(0).narrow(2, from, tokens - from) * self.score_scale; // [R, H, Q, D/H]
        // Few queries: two plain products are faster than libtorch's attention, which is made for many.
        let mut scores = query.matmul(&keys.transpose(-2, -1)); // [R, H, Q, L]
        if let Some(bias) = growth.bias(only_last) {
            scores += bias;
        }
        let heads = scores.softmax(-1, Kind::Float).matmul(&values); // [R, H, Q, D/H]
        let joined = heads.transpose(1, 2).reshape([rows, -1, width]);
        let mut sum = pass.project(self.site(Layer::AttentionOut), &self.attention_out, &joined); // [R, Q, D]
        sum += x.narrow(1, from, tokens - from);
        self.feed(pass, sum)
    }

    /// The part of the block that makes keys and values.
    pub fn keys_and_values(&self) -> KeysAndValues {
        let width = self.attention_out.bias.size()[0];
        let part = |x: &Tensor| x.narrow(-1, width, 2 * width).contiguous(); // [D, 3·D] → [D, 2·D]
        KeysAndValues(Linear {
            weight: part(&self.attention_in.weight),
            bias: part(&self.attention_in.bias),
            fan_in_fan_out: true,
        })
    }

    /// What attention reads of tokens: `x` `[R, n, D]` → `[R, n, 3·D]`.
    pub fn joint(&self, pass: &mut Pass, x: &Tensor) -> Tensor {
        pass.project(self.site(Layer::AttentionIn), &self.attention_in, &self.before_attention.forward(x))
    }

    /// The whole block from what [`Block::joint`] has made of its tokens: `x` `[B, K, D]`, `joint` `[B, K, 3·D]`,
    /// `bias` `[B or 1, 1, K, K]` → `[B, K, D]`.
    pub fn of_joint(&self, pass: &mut Pass, x: &Tensor, joint: &Tensor, bias: &Tensor) -> Tensor {
        let mut sum = self.attend_joint(pass, joint, bias, None); // [B, K, D]
        sum += x;
        self.feed(pass, sum)
    }

    /// The block for one token of each window, for acting, by a policy whose adapters are merged: `x` `[R, K, D]` are
    /// all tokens, `query` `[R, 1, D]` the one that is answered for, `bias` `[R, 1, 1, K]` → `[R, 1, D]`.
    pub fn one_query(
        &self,
        pass: &mut Pass,
        keys_and_values: &KeysAndValues,
        x: &Tensor,
        query: &Tensor,
        bias: &Tensor,
    ) -> Tensor {
        let (rows, tokens, width) = x.size3().expect("a block is given [R, K, D]");
        let both = keys_and_values.0.forward(&self.before_attention.forward(x)); // [R, K, 2·D]
        let both = both.view([rows, tokens, 2, self.heads, width / self.heads]).permute([2, 0, 3, 1, 4]);
        let (keys, values) = (both.get(0), both.get(1)); // [R, H, K, D/H]
        let joint = self.joint(pass, query).narrow(-1, 0, width); // [R, 1, D]
        let by_head = joint.view([rows, 1, self.heads, width / self.heads]).transpose(1, 2);
        let scores = (by_head * self.score_scale).matmul(&keys.transpose(-2, -1)) + bias; // [R, H, 1, K]
        let heads = scores.softmax(-1, Kind::Float).matmul(&values); // [R, H, 1, D/H]
        let joined = heads.transpose(1, 2).reshape([rows, 1, width]);
        let mut sum = pass.project(self.site(Layer::AttentionOut), &self.attention_out, &joined); // [R, 1, D]
        sum += query;
        self.feed(pass, sum)
    }

    /// The feed-forward part, added to its input: `x` `[B, Q, D]` → `[B, Q, D]`.
    fn feed(&self, pass: &mut Pass, x: Tensor) -> Tensor {
        let wide = self.widened(pass, &x);
        let fed = pass.project_rows(self.site(Layer::MlpOut), &self.mlp_out, &wide); // [N, D]
        let fed = self.mlp_out.shaped(&fed, &x); // [B, Q, D]
        let mut sum = pass.dropped(&fed, self.residual_dropout);
        sum += x;
        sum
    }

    /// Shows the tap what every map of the block reads, and leaves out what the last one makes of it:
    /// `x` `[B, K, D]`, `bias` `[B, 1, K, K]`.
    pub fn show(&self, pass: &mut Pass, x: &Tensor, bias: &Tensor) {
        let x = self.after_attention(pass, x, bias, None); // [B, K, D]
        let wide = self.widened(pass, &x);
        pass.tap.record(self.site(Layer::MlpOut), &wide);
    }

    /// The residual stream between the block's halves: `x` `[B, K, D]` → `[B, Q, D]`.
    fn after_attention(&self, pass: &mut Pass, x: &Tensor, bias: &Tensor, wanted: Option<&Tensor>) -> Tensor {
        let attended = self.attend(pass, &self.before_attention.forward(x), bias, wanted); // [B, Q, D]
        // In place where nobody else holds the tensor: a block writes as little as it can.
        let mut sum = pass.dropped(&attended, self.residual_dropout);
        sum += match wanted {
            None => x.shallow_clone(),
            Some(wanted) => x.index_select(1, wanted),
        };
        sum
    }

    /// `x` `[B, K, D]` → `[B, Q, D]`, for the queries of the `wanted` tokens.
    fn attend(&self, pass: &mut Pass, x: &Tensor, bias: &Tensor, wanted: Option<&Tensor>) -> Tensor {
        let joint = pass.project(self.site(Layer::AttentionIn), &self.attention_in, x); // [B, K, 3·D]
        self.attend_joint(pass, &joint, bias, wanted)
    }

    /// The same from queries, keys and values, `joint` `[B, K, 3·D]`.
    fn attend_joint(
        &self,
        pass: &mut Pass,
        joint: &Tensor,
        bias: &Tensor,
        wanted: Option<&Tensor>,
    ) -> Tensor {
        let (batch, tokens, joint_width) = joint.size3().expect("attention is given [B, K, 3·D]");
        let width = joint_width / 3;
        let thirds = joint.chunk(3, -1); // [B, K, D] each; one node, so that the backward pass joins them once
        let by_head = |x: &Tensor| x.view([batch, tokens, self.heads, width / self.heads]).transpose(1, 2);
        let (query, key, value) = (by_head(&thirds[0]), by_head(&thirds[1]), by_head(&thirds[2])); // [B, H, K, D/H]
        let (query, bias) = match wanted {
            None => (query, bias.shallow_clone()),
            Some(wanted) => (query.index_select(2, wanted), bias.index_select(2, wanted)),
        };
        let kind = if pass.mixed { Kind::BFloat16 } else { Kind::Float };
        let [query, key, value, bias] = [query, key, value, bias].map(|x| x.to_kind(kind));
        let heads = if pass.train && self.attention_dropout > 0.0 {
            self.mix_with_dropout(pass, &query, &key, &value, &bias)
        } else {
            let scale = self.score_scale;
            Tensor::scaled_dot_product_attention(&query, &key, &value, Some(bias), 0.0, false, scale, false)
        };
        let heads = heads.to_kind(Kind::Float); // [B, H, Q, D/H]
        let joined = heads.transpose(1, 2).reshape([batch, -1, width]);
        pass.project(self.site(Layer::AttentionOut), &self.attention_out, &joined)
    }

    /// Attention written out, for its dropout: `query` `[B, H, Q, D/H]`, `key` and `value` `[B, H, K, D/H]`, `bias`
    /// `[B, 1, Q, K]` → `[B, H, Q, D/H]`.
    fn mix_with_dropout(
        &self,
        pass: &Pass,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        bias: &Tensor,
    ) -> Tensor {
        // A padded query sees nothing, and would be no number with −∞.
        let bias = bias.clamp_min(-1e30);
        let scores = (query * self.score_scale).matmul(&key.transpose(-2, -1)) + bias; // [B, H, Q, K]
        let shares = scores.softmax(-1, Kind::Float).to_kind(value.kind());
        pass.dropped(&shares, self.attention_dropout).matmul(value)
    }

    /// The feed-forward part's inner numbers: `x` `[B, Q, D]` → rows `[N, I]`.
    fn widened(&self, pass: &mut Pass, x: &Tensor) -> Rows {
        let x = Rows::of(&self.before_mlp.forward(x));
        let wide = pass.project_rows(self.site(Layer::MlpIn), &self.mlp_in, &x); // [N, I]
        match self.activation {
            Activation::Relu => wide.relu(),
            Activation::Gelu => Rows::of(&wide.dense().gelu("none")),
            Activation::GeluNew => Rows::of(&wide.dense().gelu("tanh")),
            Activation::Silu => Rows::of(&wide.dense().silu()),
            Activation::Tanh => Rows::of(&wide.dense().tanh()),
        }
    }

    fn site(&self, layer: Layer) -> Site {
        Site::Block { block: self.index, layer }
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use crate::adapter::AdapterSet;
    use crate::model::{DecisionTransformer, Inputs, PolicyConfig};
    use crate::pass::{NoTap, Pass};

    use super::*;

    /// A policy with this attention dropout and no other, and windows of which most begin with padding.
    fn subject(attn_pdrop: f64) -> (DecisionTransformer, Inputs) {
        let sizes =
            PolicyConfig { state_dim: 3, act_dim: 2, hidden_size: 16, n_head: 2, ..Default::default() };
        let still = PolicyConfig { attn_pdrop, resid_pdrop: 0.0, embd_pdrop: 0.0, ..sizes };
        let policy = DecisionTransformer::new(
            PolicyConfig { n_positions: 30, max_ep_len: 10, initializer_range: 0.3, ..still },
            Device::Cpu,
        );
        let normal = |width| Tensor::randn([5, 10, width], (Kind::Float, Device::Cpu));
        let padding = Tensor::from_slice(&[0i64, 1, 4, 8, 9]).unsqueeze(1); // [5, 1]
        let inputs = Inputs {
            states: normal(3),
            actions: normal(2),
            rewards: None,
            returns_to_go: normal(1),
            timesteps: Tensor::arange(10, (Kind::Int64, Device::Cpu)).repeat([5, 1]),
            mask: Tensor::arange(10, (Kind::Int64, Device::Cpu)).ge_tensor(&padding),
        };
        (policy, inputs)
    }

    fn encode(policy: &DecisionTransformer, inputs: &Inputs, train: bool) -> Tensor {
        let none = AdapterSet::default();
        policy.encode(&mut Pass { adapters: &none, tap: &mut NoTap, train, mixed: false }, inputs)
    }

    #[test]
    fn attention_with_a_dropout_that_drops_nothing_is_attention() {
        tch::manual_seed(4);
        let (policy, inputs) = subject(1e-9); // less than one in 65,536
        let [trained, at_rest] = [true, false].map(|train| encode(&policy, &inputs, train));
        let real = policy.token_mask(&inputs).unsqueeze(-1); // [B, K, 1]
        assert_eq!(trained.isfinite().all().int64_value(&[]), 1, "padding gives numbers too");
        let off = ((trained - at_rest) * real).abs().max().double_value(&[]);
        assert!(off < 1e-5, "{off}");
    }

    #[test]
    fn attention_s_dropout_is_for_training_alone() {
        tch::manual_seed(5);
        let (policy, inputs) = subject(0.5);
        let [first, second] = [true; 2].map(|train| encode(&policy, &inputs, train));
        assert_ne!(first, second, "each pass drops others");
        let [first, second] = [false; 2].map(|train| encode(&policy, &inputs, train));
        assert_eq!(first, second);
    }
}
