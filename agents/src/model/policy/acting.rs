//! Acting by a key/value cache: a step computes its own tokens alone.

use tch::Tensor;

use super::transformer::TransformerPolicy;
use crate::model::core::forward::ForwardContext;
use crate::model::core::inputs::Inputs;
use crate::model::trunk::{Cache, CacheView};

impl TransformerPolicy {
    /// `rows` empty contexts of at most `steps` steps.
    pub fn cache(&self, rows: usize, steps: usize) -> Cache {
        self.trunk.cache(rows, steps as i64 * self.encoder.tokens_per_step())
    }

    /// The trunk's output for the last step, for acting, of contexts that are reset: `[R, D]`.
    ///
    /// `inputs` are their windows `[R, T]`, without padding; the cache's `rows`, all different, are emptied and
    /// then hold them. The last step's action and what follows it are left out.
    pub fn prefill(&self, cache: &mut Cache, rows: &[usize], inputs: &Inputs) -> Tensor {
        let (_, steps) = inputs.timesteps.size2().expect("inputs are windows [R, T]");
        cache.reset(rows);
        let count = steps * self.encoder.tokens_per_step() - self.tokens_after_state();
        self.append(cache, rows, inputs, 0, count)
    }

    /// The same of contexts that have grown by one step since the last call: `[R, D]`.
    ///
    /// `inputs` are their last two steps `[R, 2]`: the action and reward of the first, the rest of the second.
    pub fn decode_step(&self, cache: &mut Cache, rows: &[usize], inputs: &Inputs) -> Tensor {
        let first = self.encoder.action_index();
        self.append(cache, rows, inputs, first, self.encoder.tokens_per_step())
    }

    /// Appends `count` tokens of the windows `inputs`, from their `first` one on, to some contexts.
    fn append(&self, cache: &mut Cache, rows: &[usize], inputs: &Inputs, first: i64, count: i64) -> Tensor {
        let context = &mut ForwardContext::bare();
        let tokens = self.encoder.embed_tokens(context, inputs, &inputs.timesteps).narrow(1, first, count); // [R, n, D]
        let mut view = CacheView::new(cache, rows, count, self.device());
        let x = self.encoder.add_positions(&tokens, &view.positions()); // [R, n, D]
        let encoded = self.trunk.decode(context, x, &mut view); // [R, D]
        cache.grow(rows, count);
        encoded
    }
}
