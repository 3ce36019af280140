//! Contexts that grow, with their keys and values kept, so that a step computes its own tokens alone.
//!
//! A token sees those before it and none after it, so what a block made of it stays true while its context
//! grows. It does not when the first step leaves the window: every later token has seen that step. So a
//! context never slides; one that is full starts anew from its latest half, as a window of its own.

use tch::{Device, Kind, Tensor};

use super::decision_transformer::{DecisionTransformer, Inputs};
use crate::adapter::AdapterSet;
use crate::pass::{NoTap, Pass};

/// Steps in the context of an episode's `seen`-th state, counted from 1, when a policy looks back on at most
/// `longest`.
///
/// It depends on nothing else, so an episode is played alike whatever its neighbours do.
pub fn cached_steps(seen: usize, longest: usize) -> usize {
    let kept = (longest / 2).max(1);
    match seen.checked_sub(longest + 1) {
        None => seen,
        Some(since_full) => kept + since_full % (longest + 1 - kept),
    }
}

/// Whether that context holds nothing of the one before it, rather than one step more.
pub fn begins_anew(seen: usize, longest: usize) -> bool {
    seen == 1 || cached_steps(seen, longest) <= cached_steps(seen - 1, longest)
}

/// The keys and values of N contexts.
#[derive(Debug)]
pub struct Cache {
    /// Of each block: `[N, H, M, D/H]`, of which each row's first tokens are filled.
    keys: Vec<Tensor>,
    /// The same for values.
    values: Vec<Tensor>,
    /// Tokens that each row holds.
    lengths: Vec<i64>,
}

impl Cache {
    /// `rows` empty contexts of at most `steps` steps of `policy`.
    pub fn new(policy: &DecisionTransformer, rows: usize, steps: usize) -> Self {
        let config = policy.config();
        let shape = [
            rows as i64,
            config.n_head,
            steps as i64 * policy.per_step(),
            config.hidden_size / config.n_head,
        ];
        let empty = || (0..config.n_layer).map(|_| Tensor::zeros(shape, (Kind::Float, policy.device())));
        Self { keys: empty().collect(), values: empty().collect(), lengths: vec![0; rows] }
    }

    /// N.
    pub fn rows(&self) -> usize {
        self.lengths.len()
    }
}

impl DecisionTransformer {
    /// What the blocks make of the last step, for acting, of contexts that begin anew: `[R, D]`.
    ///
    /// `inputs` are their windows `[R, T]`, without padding; the cache's `rows`, all different, are emptied and
    /// then hold them. The last step's action and what follows it are left out.
    pub fn prime(&self, cache: &mut Cache, rows: &[usize], inputs: &Inputs) -> Tensor {
        let (_, steps) = inputs.timesteps.size2().expect("inputs are windows [R, T]");
        let left_out = self.per_step() - self.action_place();
        rows.iter().for_each(|row| cache.lengths[*row] = 0);
        self.add(cache, rows, inputs, 0, steps * self.per_step() - left_out)
    }

    /// The same of contexts that have grown by one step since they were last looked at: `[R, D]`.
    ///
    /// `inputs` are their last two steps `[R, 2]`: the action and reward of the first, the rest of the second.
    pub fn extend(&self, cache: &mut Cache, rows: &[usize], inputs: &Inputs) -> Tensor {
        self.add(cache, rows, inputs, self.action_place(), self.per_step())
    }

    /// Appends `count` tokens of the windows `inputs`, from their `first` one on, to some contexts.
    fn add(&self, cache: &mut Cache, rows: &[usize], inputs: &Inputs, first: i64, count: i64) -> Tensor {
        let no_adapters = AdapterSet::default();
        let pass = &mut Pass { adapters: &no_adapters, tap: &mut NoTap, train: false, mixed: false };
        let tokens = self.embedded(pass, inputs).narrow(1, first, count); // [R, n, D]
        let mut growth = Growth::new(cache, rows, count, self.device());
        let x = self.place(&tokens, &growth.positions()); // [R, n, D]
        let encoded = self.advance(x, &mut growth); // [R, D]
        rows.iter().for_each(|row| cache.lengths[*row] += count);
        encoded
    }
}

/// Some contexts of a cache, while the same number of tokens is added to each.
pub(super) struct Growth<'a> {
    cache: &'a mut Cache,
    /// R rows of the cache.
    rows: &'a [usize],
    /// n.
    count: i64,
    /// L: tokens of the longest of these contexts, the new ones included.
    longest: i64,
    /// `[R]`, the rows; absent where they follow each other.
    picked: Option<Tensor>,
    /// `[R·H·n]`, where the new tokens' keys go among all `[N·H·M]`.
    slots: Tensor,
    /// `[R, 1, n, L]`, or `[1, 1, n, L]` where all are equally long: 0 where a new token may look, else −∞.
    bias: Tensor,
}

impl<'a> Growth<'a> {
    fn new(cache: &'a mut Cache, rows: &'a [usize], count: i64, device: Device) -> Self {
        let (_, heads, room, _) = cache.keys[0].size4().expect("keys are [N, H, M, D/H]");
        let lengths: Vec<i64> = rows.iter().map(|row| cache.lengths[*row]).collect();
        let longest = lengths.iter().max().copied().unwrap_or(0) + count;
        assert!(longest <= room, "a context of {longest} tokens is too long for a cache of {room}");
        let mut slots = Vec::with_capacity(rows.len() * (heads * count) as usize);
        for (row, length) in rows.iter().zip(&lengths) {
            for head in 0..heads {
                let start = (*row as i64 * heads + head) * room + length;
                slots.extend(start..start + count);
            }
        }
        let alike = lengths.iter().all(|length| *length == lengths[0]);
        let different = if alike { &lengths[..1] } else { &lengths[..] };
        let mut bias = Vec::with_capacity(different.len() * (count * longest) as usize);
        for length in different {
            for token in 0..count {
                bias.extend(
                    (0..longest).map(|seen| if seen <= length + token { 0.0 } else { f32::NEG_INFINITY }),
                );
            }
        }
        let in_a_row = rows.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        let index = |numbers: Vec<i64>| Tensor::from_slice(&numbers).to_device(device);
        Self {
            longest,
            picked: (!in_a_row).then(|| index(rows.iter().map(|row| *row as i64).collect())),
            slots: index(slots),
            bias: Tensor::from_slice(&bias).to_device(device).view([-1, 1, count, longest]),
            cache,
            rows,
            count,
        }
    }

    /// The new tokens' places in their contexts: `[R, n]`.
    fn positions(&self) -> Tensor {
        let lengths: Vec<i64> = self.rows.iter().map(|row| self.cache.lengths[*row]).collect();
        let first = Tensor::from_slice(&lengths).to_device(self.bias.device()).unsqueeze(1); // [R, 1]
        first + Tensor::arange(self.count, (Kind::Int64, self.bias.device()))
    }

    /// Keeps what a block makes of the new tokens, `[R, H, n, D/H]` each, and gives the keys and values of the
    /// whole contexts, `[R, H, L, D/H]` each.
    pub fn remember(&mut self, block: usize, keys: &Tensor, values: &Tensor) -> (Tensor, Tensor) {
        let cache = &mut *self.cache;
        let keep = |all: &mut Tensor, new: &Tensor| {
            let width = new.size()[3];
            let _ = all.view([-1, width]).index_copy_(0, &self.slots, &new.reshape([-1, width]));
            let seen = all.narrow(2, 0, self.longest); // [N, H, L, D/H]
            match &self.picked {
                Some(picked) => seen.index_select(0, picked),
                None => seen.narrow(0, self.rows[0] as i64, self.rows.len() as i64),
            }
        };
        (keep(&mut cache.keys[block], keys), keep(&mut cache.values[block], values))
    }

    /// What is added to the new tokens' attention scores, or to the last one's; none where it may look at all.
    pub fn bias(&self, only_last: bool) -> Option<Tensor> {
        if !only_last {
            return Some(self.bias.shallow_clone());
        }
        let alike = self.bias.size()[0] == 1;
        (!alike).then(|| self.bias.narrow(2, self.count - 1, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_context_starts_anew_from_its_latest_half() {
        let steps = |longest| (1..=9).map(|seen| cached_steps(seen, longest)).collect::<Vec<_>>();
        assert_eq!(steps(1), [1; 9]);
        assert_eq!(steps(2), [1, 2, 1, 2, 1, 2, 1, 2, 1]);
        assert_eq!(steps(3), [1, 2, 3, 1, 2, 3, 1, 2, 3]);
        assert_eq!(steps(4), [1, 2, 3, 4, 2, 3, 4, 2, 3]);
        assert_eq!(steps(5), [1, 2, 3, 4, 5, 2, 3, 4, 5]);
    }
}
