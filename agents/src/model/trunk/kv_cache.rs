//! Contexts that grow, with their keys and values kept, so that a step computes its own tokens alone.
//!
//! A token sees those before it and none after it, so what a block made of it stays true while its context
//! grows. It does not when the first step leaves the window: every later token has seen that step. So a
//! context never slides; one that is full is rebuilt from its most recent half, as a window of its own.

use tch::{Device, Kind, Tensor};

use super::alibi::Alibi;

/// Steps in the context of an episode's `seen`-th state, counted from 1, when a policy looks back on at most
/// `longest`.
///
/// It depends on nothing else, so an episode is played alike whatever its neighbours do.
pub fn cached_context_len(seen: usize, longest: usize) -> usize {
    let kept = (longest / 2).max(1);
    match seen.checked_sub(longest + 1) {
        None => seen,
        Some(since_full) => kept + since_full % (longest + 1 - kept),
    }
}

/// Whether that context holds nothing of the one before it, rather than one step more.
pub fn resets_context(seen: usize, longest: usize) -> bool {
    seen == 1 || cached_context_len(seen, longest) <= cached_context_len(seen - 1, longest)
}

/// The keys and values of N contexts.
#[derive(Debug)]
pub struct Cache {
    /// Of each block: `[N, H, M, D/H]`, of which each row's first tokens are filled.
    keys: Vec<Tensor>,
    /// The same for values.
    values: Vec<Tensor>,
    /// Tokens that each row has been given since it was emptied.
    lengths: Vec<i64>,
    /// Tokens of a row that new ones may still look at; all where it does not roll.
    kept: Option<i64>,
}

impl Cache {
    /// `rows` empty contexts of at most `tokens` tokens for `blocks` blocks of `heads` heads, `head_width` wide.
    pub(super) fn new(
        rows: usize,
        tokens: i64,
        blocks: usize,
        [heads, head_width]: [i64; 2],
        device: Device,
    ) -> Self {
        let shape = [rows as i64, heads, tokens, head_width];
        let empty = || (0..blocks).map(|_| Tensor::zeros(shape, (Kind::Float, device)));
        Self { keys: empty().collect(), values: empty().collect(), lengths: vec![0; rows], kept: None }
    }

    /// The same, of which new tokens look at the last `kept` alone. What is kept of these stays as it was computed when
    /// they were new, so they remember more than the row holds.
    pub(super) fn rolling(self, kept: i64) -> Self {
        Self { kept: Some(kept), ..self }
    }

    /// Tokens of a row that new ones may look at.
    pub fn held(&self, row: usize) -> i64 {
        self.lengths[row].min(self.kept.unwrap_or(i64::MAX))
    }

    /// Tokens that a row has been given since it was emptied.
    pub(in crate::model) fn given(&self, row: usize) -> i64 {
        self.lengths[row]
    }

    /// N.
    pub fn rows(&self) -> usize {
        self.lengths.len()
    }

    /// Empties some rows.
    pub(in crate::model) fn reset(&mut self, rows: &[usize]) {
        rows.iter().for_each(|row| self.lengths[*row] = 0);
    }

    /// Counts `count` tokens more in some rows, whose keys and values every block has appended.
    pub(in crate::model) fn grow(&mut self, rows: &[usize], count: i64) {
        rows.iter().for_each(|row| self.lengths[*row] += count);
    }
}

/// Some contexts of a cache, while the same number of tokens is added to each.
pub(in crate::model) struct CacheView<'a> {
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
    /// `[R, 1 or H, n, L]`, or `[1, 1 or H, n, L]` where all are equally long: −∞ where a new token may not look.
    bias: Tensor,
    /// How far each key lies behind each new token, in the shape of `bias` with one head; below 0 where it is not seen.
    distances: Tensor,
    /// Whether the last new token may look at all, and at all alike.
    last_sees_all: bool,
}

impl<'a> CacheView<'a> {
    pub fn new(
        cache: &'a mut Cache,
        rows: &'a [usize],
        count: i64,
        alibi: Option<&Alibi>,
        device: Device,
    ) -> Self {
        let (_, heads, room, _) = cache.keys[0].size4().expect("keys are [N, H, M, D/H]");
        let lengths: Vec<i64> = rows.iter().map(|row| cache.lengths[*row]).collect();
        let longest = lengths.iter().max().copied().unwrap_or(0) + count;
        let fits = cache.kept.map_or(longest <= room, |kept| kept + count <= room);
        assert!(
            fits,
            "a context of {longest} tokens, or {count} new ones, are too many for a cache of {room}"
        );
        let longest = longest.min(room);
        let mut slots = Vec::with_capacity(rows.len() * (heads * count) as usize);
        for (row, length) in rows.iter().zip(&lengths) {
            for head in 0..heads {
                let start = (*row as i64 * heads + head) * room;
                slots.extend((*length..length + count).map(|token| start + token % room));
            }
        }
        let alike = lengths.iter().all(|length| *length == lengths[0]);
        let different = if alike { &lengths[..1] } else { &lengths[..] };
        // How far each slot's token lies behind each new one; below 0 where it is not there yet.
        let mut distances = Vec::with_capacity(different.len() * (count * longest) as usize);
        for length in different {
            let first = cache.kept.map_or(0, |kept| length - kept); // the first that new tokens may look at
            let last = length + count - 1;
            for token in *length..length + count {
                distances.extend((0..longest).map(|slot| {
                    let there = last - (last - slot).rem_euclid(room); // which token the slot holds
                    let is_seen = (first.max(0)..=token).contains(&there);
                    if is_seen { (token - there) as f32 } else { -1.0 }
                }));
            }
        }
        let in_a_row = rows.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        let index = |numbers: Vec<i64>| Tensor::from_slice(&numbers).to_device(device);
        let distances = Tensor::from_slice(&distances).to_device(device).view([-1, 1, count, longest]);
        let bias = distances.zeros_like().masked_fill_(&distances.lt(0.0), f64::NEG_INFINITY);
        Self {
            longest,
            picked: (!in_a_row).then(|| index(rows.iter().map(|row| *row as i64).collect())),
            slots: index(slots),
            bias: alibi.map_or(bias.shallow_clone(), |alibi| alibi.add_to(&bias, &distances.clamp_min(0.0))),
            last_sees_all: alike && alibi.is_none() && cache.kept.is_none(),
            distances,
            cache,
            rows,
            count,
        }
    }

    /// The new tokens' places in their contexts: `[R, n]`.
    pub fn positions(&self) -> Tensor {
        let lengths: Vec<i64> = self.rows.iter().map(|row| self.cache.held(*row)).collect();
        let first = Tensor::from_slice(&lengths).to_device(self.bias.device()).unsqueeze(1); // [R, 1]
        first + Tensor::arange(self.count, (Kind::Int64, self.bias.device()))
    }

    /// Appends the new tokens' keys and values of a block, `[R, H, n, D/H]` each, and returns those of the
    /// whole contexts, `[R, H, L, D/H]` each.
    pub fn append(&mut self, block: usize, keys: &Tensor, values: &Tensor) -> (Tensor, Tensor) {
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

    /// What is added to the new tokens' attention scores, or to the last one's, where they see `window` tokens back or
    /// all; none where it may look at all.
    pub fn bias(&self, only_last: bool, window: Option<i64>) -> Option<Tensor> {
        if only_last && self.last_sees_all && window.is_none() {
            return None;
        }
        let bias = match window {
            Some(window) => self.bias.masked_fill(&self.distances.ge(window), f64::NEG_INFINITY),
            None => self.bias.shallow_clone(),
        };
        Some(if only_last { bias.narrow(2, self.count - 1, 1) } else { bias })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_context_starts_anew_from_its_latest_half() {
        let steps = |longest| (1..=9).map(|seen| cached_context_len(seen, longest)).collect::<Vec<_>>();
        assert_eq!(steps(1), [1; 9]);
        assert_eq!(steps(2), [1, 2, 1, 2, 1, 2, 1, 2, 1]);
        assert_eq!(steps(3), [1, 2, 3, 1, 2, 3, 1, 2, 3]);
        assert_eq!(steps(4), [1, 2, 3, 4, 2, 3, 4, 2, 3]);
        assert_eq!(steps(5), [1, 2, 3, 4, 5, 2, 3, 4, 5]);
    }
}
