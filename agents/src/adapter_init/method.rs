//! What a method of adapter initialisation is given, and what it answers.

use super::decomposition::SiteError;
use super::eva::{EvaError, EvaResult, Progress};
use crate::adapter::site::{ModuleName, Site};
use crate::adapter::{AdapterSet, LoraOptions, OptionChecks, Origin, RunSize};
use crate::model::{Inputs, TransformerPolicy};
use crate::ranks::{OneRank, Ranks};

/// Why adapters cannot be initialised.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// At one module.
    #[error("the adapter of {module} cannot be initialised: {source}")]
    Site {
        /// The module.
        module: ModuleName,
        /// Why.
        source: SiteError,
    },

    /// In EVA's search.
    #[error(transparent)]
    Eva(#[from] EvaError),

    /// The caller wants it to end.
    #[error("the initialisation was interrupted")]
    Interrupted,
}

/// The task's trajectories, as batches of windows.
pub trait TaskData {
    /// Batches in which every window comes once.
    fn batches_per_pass(&self) -> usize;

    /// A batch of a pass over all windows, in an order of the pass's own.
    fn batch_of_pass(&mut self, pass: usize, batch: usize) -> Inputs;

    /// A batch of windows drawn as updates draw theirs.
    fn sampled_batch(&mut self, batch: usize) -> Inputs;

    /// The ranks that share the work, each of which is given whole batches and computes a part of every one.
    fn ranks(&self) -> &'static dyn Ranks {
        &OneRank
    }

    /// Whether the caller wants the initialisation to end; all ranks ask together, and are told the same.
    fn is_interrupted(&self) -> bool {
        false
    }
}

/// Initialised adapters.
#[derive(Debug)]
pub struct Initialised {
    /// What is trained beside a frozen base; none where the whole policy is.
    pub adapters: Option<AdapterSet>,
    /// What EVA found.
    pub eva: Option<EvaResult<ModuleName>>,
}

/// A method's options with the constants of its paper or of PEFT.
pub trait WithDefaults {
    /// For adapters of this size, in a run of so many updates.
    fn with_defaults(lora: LoraOptions, updates: usize) -> Self;
}

/// A method of adapter initialisation; its options are a table of a config.
pub trait AdapterMethod {
    /// Its name in tables and figures.
    fn name(&self) -> String;

    /// The size of its adapters, if it has any.
    fn lora(&self) -> Option<&LoraOptions> {
        None
    }

    /// Refuses options that contradict each other or the run.
    fn check(&self, _: RunSize, _: &mut OptionChecks) {}

    /// How an adapter's folder records its initialisation.
    fn origin(&self) -> Origin {
        Origin::Lora
    }

    /// Components of a module that its adapter takes.
    fn components(&self) -> i64 {
        self.lora().map_or(0, |lora| lora.rank.get())
    }

    /// The adapters of these modules; `progress` hears of EVA's batches.
    fn initialise(
        &self,
        policy: &TransformerPolicy,
        sites: &[Site],
        data: &mut dyn TaskData,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Initialised, InitError>;
}
