//! Which rows of a policy's pass count where inputs are collected: those of real steps, once for modules that share
//! them, and of images some patches.

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tch::Tensor;

use crate::adapter::site::{ModuleName, Site};
use crate::model::{Inputs, Tap, Token, TransformerPolicy};
use crate::tensor::{Patches, Rows};

/// What counts of every pass.
#[derive(Clone, Copy)]
pub(super) struct Chosen<'a> {
    /// The modules whose inputs count.
    pub sites: &'a [Site],
    /// The kinds of tokens that count in the blocks; all where empty.
    pub tokens: &'a [Token],
    /// Patches of every image.
    pub patches: usize,
}

/// Passes on to a tap what counts of one pass.
pub(super) struct Counted<'a> {
    tap: &'a mut dyn Tap,
    chosen: Chosen<'a>,
    policy: &'a TransformerPolicy,
    /// Rows that count of a module of the blocks, in `[B · K]`: `[N]`; nothing where all count.
    tokens: Option<Tensor>,
    /// The same before the blocks, in `[B · T]`.
    steps: Option<Tensor>,
    rng: SmallRng,
    /// Input groups that were passed on.
    shown: BTreeSet<usize>,
}

impl<'a> Counted<'a> {
    /// For one pass of `policy` over `inputs`; `seed` decides the places of patches.
    pub fn new(
        tap: &'a mut dyn Tap,
        chosen: Chosen<'a>,
        policy: &'a TransformerPolicy,
        inputs: &Inputs,
        seed: u64,
    ) -> Self {
        let kinds: Vec<bool> =
            policy.tokens().map(|token| chosen.tokens.is_empty() || chosen.tokens.contains(&token)).collect();
        let steps = inputs.mask.size()[1];
        let counted = Tensor::from_slice(&kinds).to_device(policy.device()).repeat([steps]); // [K]
        Self {
            tokens: index_of(&policy.token_mask(inputs).logical_and(&counted)),
            steps: index_of(&inputs.mask),
            tap,
            chosen,
            policy,
            rng: SmallRng::seed_from_u64(seed),
            shown: BTreeSet::new(),
        }
    }

    /// Whether the module's input counts, and was not passed on yet.
    fn is_due(&mut self, module: &ModuleName) -> bool {
        let site = self.chosen.sites.iter().find(|site| site.module == *module);
        site.is_some_and(|site| self.shown.insert(site.input_group))
    }
}

/// The places of what is true in `mask` `[B, …]`, flattened: `[N]`; nothing where all is.
fn index_of(mask: &Tensor) -> Option<Tensor> {
    let all = mask.all().int64_value(&[]) == 1;
    (!all).then(|| mask.flatten(0, -1).nonzero().squeeze_dim(-1))
}

impl Tap for Counted<'_> {
    fn record(&mut self, module: &ModuleName, x: &Rows) {
        if !self.is_due(module) {
            return;
        }
        let index = if self.policy.reads_steps(module) { &self.steps } else { &self.tokens };
        match index {
            None => self.tap.record(module, x),
            Some(index) => self.tap.record(module, &x.select(index)),
        }
    }

    fn record_patches(&mut self, module: &ModuleName, x: &Patches) {
        if self.is_due(module) {
            let rows = x.rows(self.steps.as_ref(), self.chosen.patches, &mut self.rng);
            self.tap.record(module, &rows);
        }
    }
}
