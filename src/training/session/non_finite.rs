//! Where a batch turns non-finite: the first linear module that is given, or computes, NaN or infinity.

use std::fmt;

use eva_rl_agents::adapter::site::ModuleName;
use eva_rl_agents::model::{Tap, TransformerPolicy};
use eva_rl_agents::tensor::{Patches, Rows};
use tch::Tensor;

/// Where activations cease to be finite in a forward pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NonFiniteSource {
    /// The batch itself: this module's input is not finite, and nothing came before it.
    Batch(ModuleName),
    /// This module, or what follows it up to the next.
    Module(ModuleName),
}

impl fmt::Display for NonFiniteSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch(module) => {
                write!(f, "the batch holds numbers that are not finite, which `{module}` reads")
            }
            Self::Module(module) => write!(f, "`{module}` is the first whose outputs are not finite"),
        }
    }
}

/// A tap that looks for the first input that is not finite.
pub struct NonFiniteProbe<'a> {
    policy: &'a TransformerPolicy,
    last: Option<ModuleName>,
    found: Option<NonFiniteSource>,
}

impl<'a> NonFiniteProbe<'a> {
    /// For a forward pass of this policy.
    pub fn new(policy: &'a TransformerPolicy) -> Self {
        Self { policy, last: None, found: None }
    }

    /// What it found; where `ends_finite` is false and no input was not finite, the last module.
    pub fn source(self, ends_finite: bool) -> Option<NonFiniteSource> {
        let last = self.last.filter(|_| !ends_finite).map(NonFiniteSource::Module);
        self.found.or(last)
    }

    /// Looks at what a module reads: `[…]`.
    fn look(&mut self, module: &ModuleName, inputs: &Tensor) {
        if self.found.is_none() && inputs.isfinite().all().int64_value(&[]) == 0 {
            // The embeddings read the batch; every later module reads an earlier one's output.
            self.found = Some(match &self.last {
                Some(last) if !self.policy.reads_inputs(module) => NonFiniteSource::Module(last.clone()),
                _ => NonFiniteSource::Batch(module.clone()),
            });
        }
        self.last = Some(module.clone());
    }
}

impl Tap for NonFiniteProbe<'_> {
    fn record(&mut self, module: &ModuleName, x: &Rows) {
        self.look(module, x.dense());
    }

    fn record_patches(&mut self, module: &ModuleName, x: &Patches) {
        self.look(module, x.images());
    }
}
