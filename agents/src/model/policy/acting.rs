//! Acting by a key/value cache: a step computes its own tokens alone.

use tch::{Kind, Tensor};

use super::transformer::TransformerPolicy;
use crate::model::core::forward::ForwardContext;
use crate::model::core::inputs::Inputs;
use crate::model::trunk::{Cache, CacheView};

impl TransformerPolicy {
    /// Whether dimensions of an action are chosen one after another, each given those before it.
    pub fn acts_by_dimension(&self) -> bool {
        self.encoder.dimensions_in_context()
    }

    /// Chooses the last step's action by dimension: `inputs` are windows `[B, T]`, and `choose` is given the logits
    /// `[B, ids]` of each dimension in turn and gives its numbers `[B, 1]`. The actions `[B, A]`, and all logits
    /// `[B, A · ids]`.
    pub fn act_by_dimension(
        &self,
        mut inputs: Inputs,
        choose: &mut dyn FnMut(i64, &Tensor) -> Tensor,
    ) -> (Tensor, Tensor) {
        let context = &mut ForwardContext::bare();
        let last = inputs.mask.size()[1] - 1;
        inputs.actions = inputs.actions.copy();
        let mut all = Vec::new();
        for dimension in 0..self.config().act_dim {
            let (x, bias) = self.encoder.encode_for_acting(context, &inputs);
            let read = last * self.encoder.tokens_per_step() + self.encoder.tokens_to_read() - 1 + dimension;
            let read = Tensor::from_slice(&[read]).to_device(x.device());
            let encoded = self.trunk.forward(context, x, &bias, Some(&read)).squeeze_dim(1); // [B, D]
            let logits = self.dimension_head(context, &encoded); // [B, ids]
            let chosen = choose(dimension, &logits); // [B, 1]
            inputs.actions.select(1, last).narrow(1, dimension, 1).copy_(&chosen);
            all.push(logits);
        }
        (inputs.actions.select(1, last), Tensor::cat(&all, 1))
    }

    /// `rows` empty contexts of at most `steps` steps.
    pub fn cache(&self, rows: usize, steps: usize) -> Cache {
        self.trunk.cache(rows, steps as i64 * self.encoder.tokens_per_step())
    }

    /// `rows` empty contexts of the last `steps` steps, as the family's reference acts; none where that reads windows.
    pub fn rolling_cache(&self, rows: usize, steps: usize) -> Option<Cache> {
        let (config, steps) = (self.config(), steps as i64);
        match config.has_rolling_reference() {
            false => None,
            true if config.spans_episodes() => Some(self.trunk.rolling_cache(rows, steps - 1, 1)),
            // JAT's step needs four positions of its own.
            true => Some(self.trunk.rolling_cache(rows, (2 * steps).min(config.n_positions - 4), 3)),
        }
    }

    /// The trunk's output for the last step, for acting, of contexts that roll: `[R, D]`.
    ///
    /// `inputs` are the last steps of `rows`, all different, `[R, T]` with T of at least 2; where `seen` is 1 the row is
    /// emptied first. Of a row that has seen several steps more than its context was given, as after demonstrations, all
    /// of those must be there.
    pub fn roll(&self, cache: &mut Cache, rows: &[usize], seen: &[usize], inputs: &Inputs) -> Tensor {
        let begin: Vec<usize> =
            rows.iter().zip(seen).filter(|(_, seen)| **seen == 1).map(|(row, _)| *row).collect();
        cache.reset(&begin);
        let (_, steps) = inputs.timesteps.size2().expect("inputs are windows [R, T]");
        let per_step = self.encoder.tokens_per_step();
        // A step whose action is still to be stays out of the context, and comes again with it.
        let returns = self.tokens_after_state() > 0;
        let given = |row: usize| cache.given(row) / per_step + i64::from(returns && !begin.contains(&row));
        let new: Vec<i64> = rows.iter().zip(seen).map(|(row, seen)| *seen as i64 - given(*row)).collect();
        let most = new.iter().copied().max().unwrap_or(1);
        let mut encoded =
            Tensor::zeros([rows.len() as i64, self.trunk.width()], (Kind::Float, self.device()));
        for behind in (0..most).rev() {
            // Rows that lack the step so far behind the last, those that begin with it apart: nothing is before it.
            for begins in [true, false] {
                let lacking: Vec<usize> = (0..rows.len())
                    .filter(|index| new[*index] > behind && (seen[*index] as i64 == behind + 1) == begins)
                    .collect();
                if lacking.is_empty() {
                    continue;
                }
                let index: Vec<i64> = lacking.iter().map(|index| *index as i64).collect();
                let index = Tensor::from_slice(&index).to_device(self.device());
                let some: Vec<usize> = lacking.iter().map(|index| rows[*index]).collect();
                let step = inputs.select(&index).steps(steps - behind - 2, 2);
                let (first, count) = match returns && !begins {
                    true => (0, per_step + self.encoder.tokens_to_read()),
                    false => (per_step, self.encoder.tokens_to_read()),
                };
                let read = self.append(cache, &some, &step, first, count);
                if !(returns && begins) {
                    cache.grow(&some, per_step);
                }
                let _ = encoded.index_copy_(0, &index, &read);
            }
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
        let encoded = self.append(cache, rows, inputs, 0, count);
        cache.grow(rows, count);
        encoded
    }

    /// The same of contexts that have grown by one step since the last call: `[R, D]`.
    ///
    /// `inputs` are their last two steps `[R, 2]`: the action and reward of the first, the rest of the second.
    pub fn decode_step(&self, cache: &mut Cache, rows: &[usize], inputs: &Inputs) -> Tensor {
        let (first, count) = (self.encoder.tokens_to_read(), self.encoder.tokens_per_step());
        let encoded = self.append(cache, rows, inputs, first, count);
        cache.grow(rows, count);
        encoded
    }

    /// Appends `count` tokens of the windows `inputs`, from their `first` one on, to some contexts, which do not grow yet:
    /// the output for the last, `[R, D]`.
    fn append(&self, cache: &mut Cache, rows: &[usize], inputs: &Inputs, first: i64, count: i64) -> Tensor {
        let context = &mut ForwardContext::bare();
        let tokens = self.encoder.embed_tokens(context, inputs).narrow(1, first, count); // [R, n, D]
        let mut view = CacheView::new(cache, rows, count, self.trunk.alibi.as_ref(), self.device());
        let x = self.encoder.add_positions(&tokens, &view.positions()); // [R, n, D]
        self.trunk.decode(context, x, &mut view) // [R, D]
    }
}
