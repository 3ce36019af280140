//! The blocks, one after another, and the norm that ends them.

use tch::{Device, Kind, Tensor};

use super::alibi::Alibi;
use super::block::{Block, KeysAndValues};
use super::kv_cache::{Cache, CacheView};
use crate::model::core::forward::ForwardContext;
use crate::model::core::layers::LayerNorm;

/// A transformer's blocks, and the norm that ends them.
#[derive(Debug)]
pub struct Trunk {
    blocks: Vec<Block>,
    norm: LayerNorm,
    /// By which attention knows places, if the family has it.
    pub(in crate::model) alibi: Option<Alibi>,
}

impl Trunk {
    /// At least one block.
    pub fn new(blocks: Vec<Block>, norm: LayerNorm) -> Self {
        assert!(!blocks.is_empty(), "a trunk has at least one block");
        Self { blocks, norm, alibi: None }
    }

    /// The same, whose heads' scores fall with distance.
    pub fn with_alibi(self, alibi: Alibi) -> Self {
        Self { alibi: Some(alibi), ..self }
    }

    /// What is added to attention scores, with the heads' own biases: `[B, 1, K, K]` → `[B, 1 or H, K, K]`.
    fn placed(&self, bias: &Tensor) -> Tensor {
        self.alibi.as_ref().map_or(bias.shallow_clone(), |alibi| alibi.of_windows(bias))
    }

    /// The same for blocks that see a few tokens back, if there are such: `[B, 1 or H, K, K]` each.
    fn of_local_blocks(&self, bias: &Tensor) -> Option<Tensor> {
        let window = self.blocks.iter().find_map(|block| block.attention.window)?;
        let tokens = bias.size()[3];
        let seen = Tensor::ones([tokens, tokens], (Kind::Bool, bias.device())).tril(-window); // [K, K], too far back
        Some(bias.masked_fill(&seen, f64::NEG_INFINITY))
    }

    /// The residual stream before every block, and the normalised output: `x` `[B, K, D]`, `bias` `[B, 1, K, K]` →
    /// `[B, K, D]` each.
    pub fn hidden_states(&self, context: &mut ForwardContext, x: Tensor, bias: &Tensor) -> Vec<Tensor> {
        let bias = self.placed(bias);
        let local = self.of_local_blocks(&bias);
        let mut states = vec![x];
        for block in &self.blocks {
            let last = states.last().expect("it was given one");
            states.push(block.forward(context, last, block.choose(&bias, local.as_ref()), None));
        }
        let last = states.pop().expect("a trunk has at least one block");
        states.push(self.norm.forward(&last));
        states
    }

    /// D.
    pub fn width(&self) -> i64 {
        self.norm.weight.size()[0]
    }

    /// `rows` empty contexts of at most `tokens` tokens.
    pub fn cache(&self, rows: usize, tokens: i64) -> Cache {
        let heads = self.first().attention.heads;
        Cache::new(rows, tokens, self.blocks.len(), [heads, self.width() / heads], self.device())
    }

    /// `rows` empty contexts, each of the last `tokens` tokens it was given, to which up to `count` are added at once.
    pub fn rolling_cache(&self, rows: usize, tokens: i64, count: i64) -> Cache {
        self.cache(rows, tokens + count).rolling(tokens)
    }

    /// `x` `[B, K, D]`, `bias` `[B, 1, K, K]` on attention scores → `[B, Q, D]` for the `queried` tokens `[Q]`, of
    /// which alone the last block computes outputs; all where absent.
    pub fn forward(
        &self,
        context: &mut ForwardContext,
        mut x: Tensor,
        bias: &Tensor,
        queried: Option<&Tensor>,
    ) -> Tensor {
        let bias = self.placed(bias);
        let local = self.of_local_blocks(&bias);
        let (last, earlier) = self.split_last();
        for block in earlier {
            x = block.forward(context, &x, block.choose(&bias, local.as_ref()), None);
        }
        self.norm.forward(&last.forward(context, &x, last.choose(&bias, local.as_ref()), queried))
    }

    /// Shows the context's tap the inputs of every linear module, and computes nothing that none of them reads:
    /// `x` `[B, K, D]`, `bias` `[B, 1, K, K]`.
    pub fn collect_inputs(&self, context: &mut ForwardContext, mut x: Tensor, bias: &Tensor) {
        let bias = self.placed(bias);
        let local = self.of_local_blocks(&bias);
        let (last, earlier) = self.split_last();
        for block in earlier {
            x = block.forward(context, &x, block.choose(&bias, local.as_ref()), None);
        }
        last.collect_inputs(context, &x, last.choose(&bias, local.as_ref()));
    }

    /// The output for the last of some new tokens, which also attend to the contexts that `view` holds:
    /// `x` `[R, n, D]` → `[R, D]`.
    pub(in crate::model) fn decode(
        &self,
        context: &mut ForwardContext,
        mut x: Tensor,
        view: &mut CacheView,
    ) -> Tensor {
        let (last, earlier) = self.split_last();
        for block in earlier {
            x = block.decode(context, &x, view, false); // [R, n, D]
        }
        self.norm.forward(&last.decode(context, &x, view, true)).squeeze_dim(1)
    }

    /// The first block's queries, keys and values of tokens `x` `[R, n, D]`: `[R, n, 3·D]`.
    pub fn first_qkv(&self, context: &mut ForwardContext, x: &Tensor) -> Tensor {
        self.first().queries_keys_values(context, x)
    }

    /// The last block's map to keys and values.
    pub fn last_keys_and_values(&self) -> KeysAndValues {
        self.split_last().0.keys_and_values()
    }

    /// The output for one token of each window, for acting, by a policy whose adapters are merged: tokens `x`
    /// `[R, K, D]` and the first block's `qkv` of them `[R, K, 3·D]`, `bias` `[R or 1, 1, K, K]` on attention scores
    /// → `[R, D]` for the tokens `queried` `[R]` of all `[R·K]`. `last` is [`Trunk::last_keys_and_values`].
    pub fn forward_from_qkv(
        &self,
        context: &mut ForwardContext,
        x: &Tensor,
        qkv: &Tensor,
        bias: &Tensor,
        queried: &Tensor,
        last: &KeysAndValues,
    ) -> Tensor {
        let (rows, tokens, width) = x.size3().expect("windows are [R, K, D]");
        let select = |x: &Tensor| x.reshape([rows * tokens, width]).index_select(0, queried).unsqueeze(1); // [R, 1, D]
        let (last_block, earlier) = self.split_last();
        let mut x = self.first().forward_from_qkv(context, x, qkv, bias); // [R, K, D]
        let x = match earlier.split_first() {
            None => select(&x),
            Some((_, middle)) => {
                for block in middle {
                    x = block.forward(context, &x, bias, None);
                }
                let of_queried =
                    bias.expand([rows, 1, tokens, tokens], false).reshape([rows * tokens, tokens]);
                let of_queried = of_queried.index_select(0, queried).view([rows, 1, 1, tokens]);
                last_block.one_query(context, last, &x, &select(&x), &of_queried)
            }
        };
        self.norm.forward(&x).squeeze_dim(1)
    }

    fn first(&self) -> &Block {
        &self.blocks[0]
    }

    fn split_last(&self) -> (&Block, &[Block]) {
        self.blocks.split_last().expect("a trunk has at least one block")
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.norm.weight.device()
    }
}
