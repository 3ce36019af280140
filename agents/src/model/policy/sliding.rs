//! Windows that slide by a step at a time, for acting.
//!
//! A token's embedding, and the first block's queries, keys and values of it, follow from the token and its
//! timestep alone: both are computed once a step and kept while the token is in the window. All later activations
//! depend on which tokens share the window, so they are computed anew at every step, and the result is that of
//! [`TransformerPolicy::encode_for_acting`] up to rounding. A policy that embeds a token's position in the window,
//! or has ALiBi, keeps nothing.

use tch::{Device, Kind, Tensor};

use super::transformer::TransformerPolicy;
use crate::model::core::forward::ForwardContext;
use crate::model::core::inputs::Inputs;
use crate::model::trunk::KeysAndValues;

/// The tokens of N windows of at most K steps. Step t of an episode stands in the place of step t − K.
#[derive(Debug)]
pub struct SlidingWindows {
    /// The embedded tokens: `[N, K·P, D]` for P tokens a step.
    tokens: Tensor,
    /// The first block's queries, keys and values of them: `[N, K·P, 3·D]`.
    first_qkv: Tensor,
    /// The part of the last block that every token needs.
    last_keys_and_values: KeysAndValues,
    /// Steps that each row's episode has shown.
    seen: Vec<usize>,
    /// K.
    longest: usize,
}

impl SlidingWindows {
    /// `rows` empty windows of at most `longest` steps of `policy`; none where places in the window count.
    pub fn new(policy: &TransformerPolicy, rows: usize, longest: usize) -> Option<Self> {
        if !policy.encoder.is_position_free() || policy.trunk.alibi.is_some() {
            return None;
        }
        let (width, tokens) = (policy.trunk.width(), longest as i64 * policy.encoder.tokens_per_step());
        let zeros = |width| Tensor::zeros([rows as i64, tokens, width], (Kind::Float, policy.device()));
        Some(Self {
            tokens: zeros(width),
            first_qkv: zeros(3 * width),
            last_keys_and_values: policy.trunk.last_keys_and_values(),
            seen: vec![0; rows],
            longest,
        })
    }

    /// What is added to the attention scores of some rows' first `tokens` tokens: 0 where a token may look, else −∞.
    /// `[R, 1, tokens, tokens]`, or `[1, 1, tokens, tokens]` where all rows stand alike.
    fn bias(&self, rows: &[usize], tokens: usize, per_step: usize, unread: usize) -> Tensor {
        let alike = rows.iter().all(|row| self.seen[*row] == self.seen[rows[0]]);
        let different = if alike { &rows[..1] } else { rows };
        let mut bias = vec![f32::NEG_INFINITY; different.len() * tokens * tokens];
        for (row, bias) in different.iter().zip(bias.chunks_exact_mut(tokens * tokens)) {
            let seen = self.seen[*row];
            let last = seen * per_step - unread; // tokens of the episode so far
            // The number of each place's token in the episode; none where the place holds nothing of the window.
            let numbers: Vec<Option<usize>> = (0..tokens)
                .map(|place| {
                    let (slot, within) = (place / per_step, place % per_step);
                    let behind = (seen - 1 + self.longest - slot) % self.longest; // steps before the latest
                    let step = (seen - 1).checked_sub(behind)?;
                    Some(step * per_step + within).filter(|number| *number < last)
                })
                .collect();
            for (query, bias) in numbers.iter().zip(bias.chunks_exact_mut(tokens)) {
                for (key, bias) in numbers.iter().zip(bias) {
                    if key.is_some() && key <= query {
                        *bias = 0.0;
                    }
                }
            }
            for (place, number) in numbers.iter().enumerate() {
                if number.is_none() {
                    bias[place * tokens + place] = 0.0; // what sees nothing would be no number
                }
            }
        }
        let side = tokens as i64;
        Tensor::from_slice(&bias).view([-1, 1, side, side])
    }
}

impl TransformerPolicy {
    /// The trunk's output for the last step, for acting, of windows that slide by one step: `[R, D]`.
    ///
    /// `inputs` are the last two steps of `rows`, all different, `[R, 2]`; of an episode's first step the one before
    /// is padding, and empties the row. The last step's action and what follows it are left out.
    pub fn slide(&self, windows: &mut SlidingWindows, rows: &[usize], inputs: &Inputs) -> Tensor {
        let context = &mut ForwardContext::bare();
        let (per_step, width) = (self.encoder.tokens_per_step(), self.trunk.width());
        let unread = self.tokens_after_state();
        let begins: Vec<bool> = Vec::try_from(inputs.mask.select(1, 0).logical_not().to_device(Device::Cpu))
            .expect("a mask is boolean");
        for (row, begins) in rows.iter().zip(begins) {
            windows.seen[*row] = if begins { 1 } else { windows.seen[*row] + 1 };
        }

        // The new tokens: the earlier step's action and what follows it, and the rest of the last step.
        let new = self.encoder.embed_tokens(context, inputs); // [R, 2·P, D]
        // Positions do not count, so any will do.
        let new = self.encoder.add_positions(&new, &inputs.timesteps);
        let new = new.narrow(1, self.encoder.tokens_to_read(), per_step); // [R, P, D]
        let places: Vec<i64> = rows
            .iter()
            .flat_map(|row| {
                let step = windows.seen[*row] - 1;
                let before = (step + windows.longest - 1) % windows.longest;
                let start = *row as i64 * windows.longest as i64;
                let (before, now) = (start + before as i64, start + (step % windows.longest) as i64);
                let place = |slot: i64, within: i64| slot * per_step + within;
                let earlier = (per_step - unread..per_step).map(move |within| place(before, within));
                earlier.chain((0..per_step - unread).map(move |within| place(now, within)))
            })
            .collect();
        let places = Tensor::from_slice(&places).to_device(self.device()); // [R·P] of [N·K·P]
        let qkv = self.trunk.first_qkv(context, &new); // [R, P, 3·D]
        for (all, new) in [(&windows.tokens, &new), (&windows.first_qkv, &qkv)] {
            let width = new.size()[2];
            let _ = all.view([-1, width]).index_copy_(0, &places, &new.reshape([-1, width]));
        }

        let steps = rows.iter().map(|row| windows.seen[*row]).max().unwrap_or(1).min(windows.longest);
        let tokens = steps as i64 * per_step;
        let in_a_row = rows.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        let index: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
        let of_rows = |all: &Tensor| match in_a_row {
            true => all.narrow(0, index[0], index.len() as i64).narrow(1, 0, tokens),
            false => {
                let index = Tensor::from_slice(&index).to_device(self.device());
                all.narrow(1, 0, tokens).index_select(0, &index)
            }
        };
        let bias = windows.bias(rows, tokens as usize, per_step as usize, unread as usize);
        let bias = bias.to_device(self.device());
        // The place of each row's latest state or return, whichever is read for the action.
        let latest = rows.iter().enumerate().map(|(at, row)| {
            let slot = ((windows.seen[*row] - 1) % windows.longest) as i64;
            at as i64 * tokens + slot * per_step + per_step - unread - 1
        });
        let latest = Tensor::from_slice(&latest.collect::<Vec<_>>()).to_device(self.device()); // [R] of [R·K']
        let (x, qkv) = (of_rows(&windows.tokens), of_rows(&windows.first_qkv)); // [R, K', D], [R, K', 3·D]
        let encoded =
            self.trunk.forward_from_qkv(context, &x, &qkv, &bias, &latest, &windows.last_keys_and_values);
        encoded.view([-1, width]) // [R, D]
    }
}
