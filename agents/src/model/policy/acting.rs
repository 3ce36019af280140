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

    /// `rows` empty contexts of the last `steps` steps, as the family's reference acts; none where that reads windows.
    pub fn rolling_cache(&self, rows: usize, steps: usize) -> Option<Cache> {
        self.config().spans_episodes().then(|| self.trunk.rolling_cache(rows, steps as i64))
    }

    /// The trunk's output for the last step, for acting, of contexts that roll: `[R, D]`.
    ///
    /// `inputs` are the last steps of `rows`, all different, `[R, T]`; where `seen` is 1 the row is emptied first. Of a
    /// row that has seen several steps more than its context was given, as after demonstrations, all of those must be
    /// there.
    pub fn roll(&self, cache: &mut Cache, rows: &[usize], seen: &[usize], inputs: &Inputs) -> Tensor {
        let begin: Vec<usize> =
            rows.iter().zip(seen).filter(|(_, seen)| **seen == 1).map(|(row, _)| *row).collect();
        cache.reset(&begin);
        let (_, steps) = inputs.timesteps.size2().expect("inputs are windows [R, T]");
        let new: Vec<i64> =
            rows.iter().zip(seen).map(|(row, seen)| *seen as i64 - cache.given(*row)).collect();
        let most = new.iter().copied().max().unwrap_or(1);
        let mut encoded = Tensor::new();
        for behind in (0..most).rev() {
            // Rows that lack the step so far behind the last; at last all of them.
            let lacking: Vec<usize> = (0..rows.len()).filter(|index| new[*index] > behind).collect();
            let index = Tensor::from_slice(&lacking.iter().map(|index| *index as i64).collect::<Vec<_>>());
            let step = inputs.select(&index.to_device(self.device())).steps(steps - behind - 1, 1);
            let some: Vec<usize> = lacking.iter().map(|index| rows[*index]).collect();
            encoded = self.append(cache, &some, &step, 0, 1);
        }
        encoded
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
        let first = self.encoder.tokens_to_read();
        self.append(cache, rows, inputs, first, self.encoder.tokens_per_step())
    }

    /// Appends `count` tokens of the windows `inputs`, from their `first` one on, to some contexts.
    fn append(&self, cache: &mut Cache, rows: &[usize], inputs: &Inputs, first: i64, count: i64) -> Tensor {
        let context = &mut ForwardContext::bare();
        let tokens = self.encoder.embed_tokens(context, inputs).narrow(1, first, count); // [R, n, D]
        let mut view = CacheView::new(cache, rows, count, self.trunk.alibi.as_ref(), self.device());
        let x = self.encoder.add_positions(&tokens, &view.positions()); // [R, n, D]
        let encoded = self.trunk.decode(context, x, &mut view); // [R, D]
        cache.grow(rows, count);
        encoded
    }
}
