//! One pre-norm transformer block: causal self-attention, then the feed-forward part.

use tch::{Kind, Tensor};

use super::kv_cache::CacheView;
use crate::model::core::config::Activation;
use crate::model::core::forward::ForwardContext;
use crate::model::core::layers::{LayerNorm, Linear, Module};
use crate::tensor::Rows;

/// The part of a block's attention that maps tokens to their keys and values alone: `[…, D]` → `[…, 2·D]`.
#[derive(Debug)]
pub struct KeysAndValues(Linear);

/// The layers that give attention its queries, keys and values, as the files keep them.
#[derive(Debug)]
pub enum QueriesKeysValues {
    /// One layer: D → 3·D.
    Joint(Module),
    /// A layer for queries, one for keys and one for values: D → D each.
    Separate(Box<[Module; 3]>),
}

impl QueriesKeysValues {
    /// `x` `[…, D]` → `[…, 3·D]`.
    fn project(&self, context: &mut ForwardContext, x: &Tensor) -> Tensor {
        match self {
            Self::Joint(module) => context.project(module, x),
            Self::Separate(modules) => {
                let rows = Rows::of(x); // one copy for the three
                let parts = modules.each_ref().map(|module| {
                    module.linear.shaped(&context.project_rows(module, &rows), x) // […, D]
                });
                Tensor::cat(&parts, -1)
            }
        }
    }

    /// The keys' and values' part, of which `width` D are the keys: `[…, D]` → `[…, 2·D]`.
    fn keys_and_values(&self, width: i64) -> Linear {
        match self {
            Self::Joint(module) => {
                let axis = if module.linear.fan_in_fan_out { -1 } else { 0 };
                let part = |x: &Tensor, axis| x.narrow(axis, width, 2 * width).contiguous();
                Linear {
                    weight: part(&module.linear.weight, axis),
                    bias: part(&module.linear.bias, 0),
                    fan_in_fan_out: module.linear.fan_in_fan_out,
                }
            }
            Self::Separate(modules) => {
                let [_, keys, values] = modules.each_ref().map(|module| &module.linear);
                Linear {
                    weight: Tensor::cat(&[keys.matrix(), values.matrix()], 0), // [2·D, D]
                    bias: Tensor::cat(&[&keys.bias, &values.bias], 0),         // [2·D]
                    fan_in_fan_out: false,
                }
            }
        }
    }
}

/// How a block attends.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// H.
    pub heads: i64,
    /// What the products of queries and keys are multiplied by.
    pub score_scale: f64,
    /// Dropout of attention weights.
    pub dropout: f64,
    /// Tokens that it sees back to, its own included, where it does not see all.
    pub window: Option<i64>,
}

/// One block of the transformer, as a family builds it.
#[derive(Debug)]
pub struct Block {
    /// Its place among the blocks, from 0.
    pub index: usize,
    /// Before attention.
    pub attention_norm: LayerNorm,
    /// What it attends by: D → 3·D.
    pub attention_in: QueriesKeysValues,
    /// Of each head's queries and keys, if the family has them.
    pub query_key_norms: Option<Box<[LayerNorm; 2]>>,
    /// The heads' outputs back to the residual stream: D → D.
    pub attention_out: Module,
    /// How it attends.
    pub attention: Attention,
    /// Before the feed-forward part.
    pub mlp_norm: LayerNorm,
    /// The feed-forward part's first layer: D → I.
    pub mlp_in: Module,
    /// Between its two layers.
    pub activation: Activation,
    /// The feed-forward part's second layer: I → D.
    pub mlp_out: Module,
    /// Dropout after each residual branch.
    pub residual_dropout: f64,
}

impl Block {
    /// `x` `[B, K, D]` → `[B, Q, D]`; `bias` `[B, 1 or H, K, K]` is added to attention scores, −∞ where a query may
    /// not look.
    ///
    /// `queried` `[Q]` are the tokens whose outputs are computed, from the keys and values of all; all where absent.
    pub fn forward(
        &self,
        context: &mut ForwardContext,
        x: &Tensor,
        bias: &Tensor,
        queried: Option<&Tensor>,
    ) -> Tensor {
        let x = self.after_attention(context, x, bias, queried); // [B, Q, D]
        self.feed_forward(context, x)
    }

    /// The same for new tokens of contexts whose earlier ones `view` holds: `x` `[R, n, D]` → `[R, n, D]`,
    /// or `[R, 1, D]` where only the last one's output is computed.
    pub fn decode(
        &self,
        context: &mut ForwardContext,
        x: &Tensor,
        view: &mut CacheView,
        only_last: bool,
    ) -> Tensor {
        let (rows, tokens, width) = x.size3().expect("a block is given [R, n, D]");
        let qkv = self.queries_keys_values(context, x); // [R, n, 3·D]
        let split = qkv
            .view([rows, tokens, 3, self.attention.heads, width / self.attention.heads])
            .permute([2, 0, 3, 1, 4]);
        let (keys, values) = view.append(self.index, &self.keys(split.get(1)), &split.get(2)); // [R, H, L, D/H]
        let from = if only_last { tokens - 1 } else { 0 };
        let query = self.queries(split.get(0).narrow(2, from, tokens - from)) * self.attention.score_scale; // [R, H, Q, D/H]
        // Few queries: two plain products are faster than libtorch's attention, which is made for many.
        let mut scores = query.matmul(&keys.transpose(-2, -1)); // [R, H, Q, L]
        if let Some(bias) = view.bias(only_last, self.attention.window) {
            scores += bias;
        }
        let heads = scores.softmax(-1, Kind::Float).matmul(&values); // [R, H, Q, D/H]
        let joined = heads.transpose(1, 2).reshape([rows, -1, width]);
        let mut sum = context.project(&self.attention_out, &joined); // [R, Q, D]
        sum += x.narrow(1, from, tokens - from);
        self.feed_forward(context, sum)
    }

    /// The part of the block that makes keys and values.
    pub fn keys_and_values(&self) -> KeysAndValues {
        let width = self.attention_out.linear.bias.size()[0];
        KeysAndValues(self.attention_in.keys_and_values(width))
    }

    /// What attention reads of tokens: `x` `[R, n, D]` → `[R, n, 3·D]`.
    pub fn queries_keys_values(&self, context: &mut ForwardContext, x: &Tensor) -> Tensor {
        self.attention_in.project(context, &self.attention_norm.forward(x))
    }

    /// The whole block from what [`Block::queries_keys_values`] has made of its tokens: `x` `[B, K, D]`, `qkv` `[B, K, 3·D]`,
    /// `bias` `[B or 1, 1, K, K]` → `[B, K, D]`.
    pub fn forward_from_qkv(
        &self,
        context: &mut ForwardContext,
        x: &Tensor,
        qkv: &Tensor,
        bias: &Tensor,
    ) -> Tensor {
        let mut sum = self.attend_qkv(context, qkv, bias, None); // [B, K, D]
        sum += x;
        self.feed_forward(context, sum)
    }

    /// The block for one token of each window, for acting, by a policy whose adapters are merged: `x` `[R, K, D]` are
    /// all tokens, `query` `[R, 1, D]` the one whose output is computed, `bias` `[R, 1, 1, K]` → `[R, 1, D]`.
    pub fn one_query(
        &self,
        context: &mut ForwardContext,
        keys_and_values: &KeysAndValues,
        x: &Tensor,
        query: &Tensor,
        bias: &Tensor,
    ) -> Tensor {
        let (rows, tokens, width) = x.size3().expect("a block is given [R, K, D]");
        let both = keys_and_values.0.forward(&self.attention_norm.forward(x)); // [R, K, 2·D]
        let both = both
            .view([rows, tokens, 2, self.attention.heads, width / self.attention.heads])
            .permute([2, 0, 3, 1, 4]);
        let (keys, values) = (self.keys(both.get(0)), both.get(1)); // [R, H, K, D/H]
        let qkv = self.queries_keys_values(context, query).narrow(-1, 0, width); // [R, 1, D]
        let by_head = qkv.view([rows, 1, self.attention.heads, width / self.attention.heads]).transpose(1, 2);
        let scores =
            (self.queries(by_head) * self.attention.score_scale).matmul(&keys.transpose(-2, -1)) + bias; // [R, H, 1, K]
        let heads = scores.softmax(-1, Kind::Float).matmul(&values); // [R, H, 1, D/H]
        let joined = heads.transpose(1, 2).reshape([rows, 1, width]);
        let mut sum = context.project(&self.attention_out, &joined); // [R, 1, D]
        sum += query;
        self.feed_forward(context, sum)
    }

    /// The bias on attention scores that is this block's: `all`, or `local` where it sees a few tokens back alone;
    /// `[B, 1 or H, K, K]` each.
    pub fn choose<'b>(&self, all: &'b Tensor, local: Option<&'b Tensor>) -> &'b Tensor {
        match (self.attention.window, local) {
            (Some(_), Some(local)) => local,
            _ => all,
        }
    }

    /// Each head's queries `[…, D/H]` as they meet the keys: `[…, D/H]`.
    fn queries(&self, x: Tensor) -> Tensor {
        match &self.query_key_norms {
            Some(norms) => norms[0].forward(&x),
            None => x,
        }
    }

    /// Each head's keys `[…, D/H]` as the queries meet them: `[…, D/H]`.
    fn keys(&self, x: Tensor) -> Tensor {
        match &self.query_key_norms {
            Some(norms) => norms[1].forward(&x),
            None => x,
        }
    }

    /// The feed-forward part, added to its input: `x` `[B, Q, D]` → `[B, Q, D]`.
    fn feed_forward(&self, context: &mut ForwardContext, x: Tensor) -> Tensor {
        let wide = self.hidden(context, &x);
        let fed = context.project_rows(&self.mlp_out, &wide); // [N, D]
        let fed = self.mlp_out.linear.shaped(&fed, &x); // [B, Q, D]
        let mut sum = context.dropped(&fed, self.residual_dropout);
        sum += x;
        sum
    }

    /// Shows the tap the inputs of every linear module of the block, and leaves out the last one's output:
    /// `x` `[B, K, D]`, `bias` `[B, 1 or H, K, K]`.
    pub fn collect_inputs(&self, context: &mut ForwardContext, x: &Tensor, bias: &Tensor) {
        let x = self.after_attention(context, x, bias, None); // [B, K, D]
        let wide = self.hidden(context, &x);
        context.record(&self.mlp_out, &wide);
    }

    /// The residual stream between the block's halves: `x` `[B, K, D]` → `[B, Q, D]`.
    fn after_attention(
        &self,
        context: &mut ForwardContext,
        x: &Tensor,
        bias: &Tensor,
        queried: Option<&Tensor>,
    ) -> Tensor {
        let attended = self.attend(context, &self.attention_norm.forward(x), bias, queried); // [B, Q, D]
        // In place where nobody else holds the tensor: a block writes as little as it can.
        let mut sum = context.dropped(&attended, self.residual_dropout);
        sum += match queried {
            None => x.shallow_clone(),
            Some(queried) => x.index_select(1, queried),
        };
        sum
    }

    /// `x` `[B, K, D]` → `[B, Q, D]`, for the queries of the `queried` tokens.
    fn attend(
        &self,
        context: &mut ForwardContext,
        x: &Tensor,
        bias: &Tensor,
        queried: Option<&Tensor>,
    ) -> Tensor {
        let qkv = self.attention_in.project(context, x); // [B, K, 3·D]
        self.attend_qkv(context, &qkv, bias, queried)
    }

    /// The same from queries, keys and values, `qkv` `[B, K, 3·D]`.
    fn attend_qkv(
        &self,
        context: &mut ForwardContext,
        qkv: &Tensor,
        bias: &Tensor,
        queried: Option<&Tensor>,
    ) -> Tensor {
        let (batch, tokens, qkv_width) = qkv.size3().expect("attention is given [B, K, 3·D]");
        let width = qkv_width / 3;
        let thirds = qkv.chunk(3, -1); // [B, K, D] each; one node, so that the backward pass joins them once
        let by_head = |x: &Tensor| {
            x.view([batch, tokens, self.attention.heads, width / self.attention.heads]).transpose(1, 2)
        };
        let (query, key, value) = (by_head(&thirds[0]), by_head(&thirds[1]), by_head(&thirds[2])); // [B, H, K, D/H]
        let (query, bias) = match queried {
            None => (query, bias.shallow_clone()),
            Some(queried) => (query.index_select(2, queried), bias.index_select(2, queried)),
        };
        let (query, key) = (self.queries(query), self.keys(key));
        let kind = context.product_kind();
        let [query, key, value, bias] = [query, key, value, bias].map(|x| x.to_kind(kind));
        let heads = if context.is_training() && self.attention.dropout > 0.0 {
            self.attend_with_dropout(context, &query, &key, &value, &bias)
        } else {
            let scale = self.attention.score_scale;
            Tensor::scaled_dot_product_attention(&query, &key, &value, Some(bias), 0.0, false, scale, false)
        };
        let heads = heads.to_kind(Kind::Float); // [B, H, Q, D/H]
        let joined = heads.transpose(1, 2).reshape([batch, -1, width]);
        context.project(&self.attention_out, &joined)
    }

    /// Attention written out, for its dropout: `query` `[B, H, Q, D/H]`, `key` and `value` `[B, H, K, D/H]`, `bias`
    /// `[B, 1 or H, Q, K]` → `[B, H, Q, D/H]`.
    fn attend_with_dropout(
        &self,
        context: &ForwardContext,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        bias: &Tensor,
    ) -> Tensor {
        // A padded query sees nothing, and would be no number with −∞.
        let bias = bias.clamp_min(-1e30);
        let scores = (query * self.attention.score_scale).matmul(&key.transpose(-2, -1)) + bias; // [B, H, Q, K]
        let weights = scores.softmax(-1, Kind::Float).to_kind(value.kind());
        context.dropped(&weights, self.attention.dropout).matmul(value)
    }

    /// The feed-forward part's hidden activations: `x` `[B, Q, D]` → rows `[N, I]`.
    fn hidden(&self, context: &mut ForwardContext, x: &Tensor) -> Rows {
        let x = Rows::of(&self.mlp_norm.forward(x));
        let wide = context.project_rows(&self.mlp_in, &x); // [N, I]
        match self.activation {
            Activation::Relu => wide.relu(),
            Activation::Gelu => Rows::of(&wide.dense().gelu("none")),
            Activation::GeluNew => Rows::of(&wide.dense().gelu("tanh")),
            Activation::Silu => Rows::of(&wide.dense().silu()),
            Activation::Tanh => Rows::of(&wide.dense().tanh()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use crate::model::core::config::PolicyConfig;
    use crate::model::core::inputs::Inputs;
    use crate::model::policy::transformer::TransformerPolicy;

    use super::*;

    /// A policy with this attention dropout and no other, and windows of which most begin with padding.
    fn subject(attn_pdrop: f64) -> (TransformerPolicy, Inputs) {
        let sizes =
            PolicyConfig { state_dim: 3, act_dim: 2, hidden_size: 16, n_head: 2, ..Default::default() };
        let still = PolicyConfig { attn_pdrop, resid_pdrop: 0.0, embd_pdrop: 0.0, ..sizes };
        let policy = TransformerPolicy::new(
            PolicyConfig { n_positions: 30, max_ep_len: 10, initializer_range: 0.3, ..still },
            Device::Cpu,
        );
        let normal = |width| Tensor::randn([5, 10, width], (Kind::Float, Device::Cpu));
        let padding = Tensor::from_slice(&[0i64, 1, 4, 8, 9]).unsqueeze(1); // [5, 1]
        let inputs = Inputs {
            states: normal(3),
            words: None,
            images: None,
            previous: None,
            actions: normal(2),
            rewards: None,
            returns_to_go: normal(1),
            timesteps: Tensor::arange(10, (Kind::Int64, Device::Cpu)).repeat([5, 1]),
            mask: Tensor::arange(10, (Kind::Int64, Device::Cpu)).ge_tensor(&padding),
        };
        (policy, inputs)
    }

    fn encode(policy: &TransformerPolicy, inputs: &Inputs, train: bool) -> Tensor {
        policy.encode(&mut ForwardContext::bare().train(train), inputs)
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
