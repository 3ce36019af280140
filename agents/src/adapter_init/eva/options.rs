//! EVA's options: the table of a config and the flags of `eva-rl eva` are read off this one type.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::ablations;
use crate::adapter::{LoraOptions, OptionChecks, Origin, Rank, RunSize};
use crate::model::Token;
use crate::pca::{Covariance, End, IncrementalPca, NystromSketch, Solver, Spectrum};

/// Patches of every image that count where nobody says how many.
pub const PATCHES: usize = 8;

/// Up to so many columns of a sketch's test matrix a width, the exact covariance costs about as little.
const GRAM_COLUMNS: i64 = 9;

/// Up to this width it costs little whatever the rank.
const GRAM_WIDTH: i64 = 128;

/// Up to this width of patches it is worth what it costs.
const GRAM_PATCH_WIDTH: i64 = 1024;

/// EVA's options, each with the paper's or PEFT's choice among its values.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaOptions {
    /// Size of the adapters.
    pub lora: LoraOptions,
    /// A module's rank may grow to `rho` times `lora.rank`; 1 keeps all ranks equal.
    #[serde(default = "default_rho")]
    #[schemars(range(min = 1.0, max = 1000.0))]
    pub rho: f64,
    /// The cosine at which components count as converged, by the rule of `stop`; where absent 0.995 under
    /// `split_half`, and PEFT's 0.99 under `component_cosine`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub tau: Option<f64>,
    /// Stop after this many batches, converged or not.
    #[serde(default = "default_max_batches")]
    #[schemars(range(min = 1))]
    pub max_batches: usize,
    /// When components count as converged.
    #[serde(default)]
    pub stop: StopRule,
    /// How components are computed.
    #[serde(default)]
    pub solver: SolverKind,
    /// Whether activations are centred, as PEFT and Algorithm 2 do; else it is E[x xᵀ], as in Theorem 3.2.
    #[serde(default = "default_centred")]
    pub centred: bool,
    /// What ranks are allocated by.
    #[serde(default)]
    pub allocation: Allocation,
    /// Which components A gets; all but `leading` are ablations.
    #[serde(default)]
    pub components: Components,
    /// Whether each row of A is divided by the root of its singular value, as PEFT's `whiten` does.
    #[serde(default)]
    pub whiten: bool,
    /// Kinds of tokens whose activations count in the blocks; all where empty.
    #[serde(default)]
    pub tokens: Vec<Token>,
    /// Patches of every image that count at a convolution, at places drawn for each image; all where there are no
    /// more.
    #[serde(default = "default_patches")]
    #[schemars(range(min = 1))]
    pub patches: usize,
}

fn default_rho() -> f64 {
    2.0
}

fn default_max_batches() -> usize {
    200
}

fn default_centred() -> bool {
    true
}

fn default_patches() -> usize {
    PATCHES
}

impl EvaOptions {
    /// EVA as the paper has it, at this mean rank.
    pub fn new(rank: Rank) -> Self {
        Self {
            lora: LoraOptions::new(rank),
            rho: default_rho(),
            tau: None,
            max_batches: default_max_batches(),
            stop: StopRule::default(),
            solver: SolverKind::default(),
            centred: default_centred(),
            allocation: Allocation::default(),
            components: Components::default(),
            whiten: false,
            tokens: Vec::new(),
            patches: default_patches(),
        }
    }

    /// The cosine at which components count as converged.
    pub fn tau(&self) -> f64 {
        self.tau.unwrap_or(match self.stop {
            StopRule::ComponentCosine => 0.99,
            StopRule::SplitHalf => 0.995, // finds closer components than PEFT's
        })
    }

    /// How an adapter's folder records a search with these options.
    pub fn origin(&self) -> Origin {
        Origin::Eva { rho: self.rho, tau: (self.stop == StopRule::ComponentCosine).then_some(self.tau()) }
    }

    /// Refuses values that EVA cannot have, and choices that contradict each other.
    pub fn check(&self, run: RunSize, checks: &mut OptionChecks) {
        let keeps_halves = self.solver != SolverKind::Incremental;
        let wanted =
            "must be \"component_cosine\" with solver \"incremental\", which keeps no halves to compare";
        checks.relation("stop", "\"split_half\"", keeps_halves || self.stop != StopRule::SplitHalf, wanted);
        if self.components == Components::Minor {
            let exact = matches!(self.solver, SolverKind::Auto | SolverKind::Gram);
            let wanted = "must be \"gram\" with components \"minor\", which only the whole covariance shows";
            checks.relation("solver", word(self.solver), exact, wanted);
            let wanted = "must be 1 with components \"minor\", whose variance says nothing of their worth";
            checks.relation("rho", self.rho, self.rho == 1.0, wanted);
        }
        // A window has at least one real step, of which each kind of token that counts is one; a policy reads three
        // kinds or more.
        let components = (self.rho * self.lora.rank.get() as f64).round() as usize;
        let tokens = if self.tokens.is_empty() { 3 } else { self.tokens.len() };
        let windows = run.batch_size.saturating_mul(self.max_batches);
        let wanted = "must give a token for each of rho · rank components, at as many a window as `tokens` has kinds (3 where it is absent)";
        let fits = windows.saturating_mul(tokens) >= components;
        checks.relation("max_batches · optimiser.batch_size", windows, fits, wanted);
    }

    /// Components that are candidates at a module of this rank, `width` wide.
    pub(super) fn candidates(&self, rank: Rank, width: i64) -> i64 {
        ((rank.get() as f64 * self.rho).round() as i64).min(width)
    }

    /// A solver of so many components of rows `width` wide, which may be patches of images.
    pub(super) fn solver(
        &self,
        components: i64,
        width: i64,
        of_patches: bool,
        device: Device,
    ) -> Box<dyn Solver> {
        let end = if self.components == Components::Minor { End::Minor } else { End::Leading };
        let widest = if of_patches { GRAM_PATCH_WIDTH } else { GRAM_WIDTH };
        let narrow =
            width <= widest.max(GRAM_COLUMNS * NystromSketch::columns(components)) || end == End::Minor;
        match self.solver {
            SolverKind::Incremental => Box::new(IncrementalPca::new(components, width, self.centred, device)),
            SolverKind::Sketch => Box::new(NystromSketch::new(components, width, self.centred)),
            SolverKind::Auto if !narrow => Box::new(NystromSketch::new(components, width, self.centred)),
            SolverKind::Gram | SolverKind::Auto => {
                Box::new(Covariance::new(components, width, self.centred, end))
            }
        }
    }
}

/// How components are computed; see [`crate::pca`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SolverKind {
    /// Gram where a module is narrow, sketch where it is wide; gram for the patches of most convolutions.
    #[default]
    Auto,
    /// PEFT's incremental PCA.
    Incremental,
    /// The exact covariance.
    Gram,
    /// The covariance through a thin test matrix.
    Sketch,
}

/// What ranks are allocated by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Allocation {
    /// The fraction of the module's whole variance: PEFT's, and the official code's default.
    #[default]
    ExplainedVarianceRatio,
    /// `σⱼ² / ((M − 1)·‖σ‖₁)` over the module's candidates: the paper's Eq. 6.
    L1Norm,
}

/// When components count as converged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopRule {
    /// Once the subspaces of two disjoint halves of the data agree so well that the subspace of both is within
    /// arccos(`tau`) of that of all data, in root mean square over the whole budget. The halves share no row, so
    /// their errors are independent, and the mean squared sine between them is four times that of both together.
    /// N batches are drawn without replacement, so n of them have 1 − n/N of the error of as many independent ones.
    #[default]
    SplitHalf,
    /// Once no batch turns a used component by more than arccos(`tau`): PEFT's rule, which measures how little
    /// one batch among many changes, not how far off they all are.
    ComponentCosine,
}

/// A choice as a config spells it, quoted.
fn word(choice: impl Serialize) -> String {
    serde_json::to_string(&choice).expect("a choice is a word")
}

/// Which components A gets: EVA's, or those of one of the paper's ablations (Tables 12 and 25).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Components {
    /// Those of most variance: EVA.
    #[default]
    Leading,
    /// The same, rotated at random among themselves: EVA-rot.
    Rotated,
    /// Their entries, permuted between components: EVA-perm.
    Permuted,
    /// Those of least variance: EVA-minor. Requires the gram solver.
    Minor,
    /// LoRA's random ones, with EVA's ranks.
    Random,
}

impl Allocation {
    /// The score of each candidate component of a module.
    pub(super) fn of(self, spectrum: &Spectrum) -> Vec<f64> {
        match self {
            Self::ExplainedVarianceRatio => spectrum.explained_ratio(),
            Self::L1Norm => {
                let sigma = spectrum.singular_values();
                let scale = (spectrum.rows as f64 - 1.0) * sigma.iter().sum::<f64>();
                sigma.iter().map(|sigma| if scale > 0.0 { sigma * sigma / scale } else { 0.0 }).collect()
            }
        }
    }
}

impl EvaOptions {
    /// A with the first `rank` components: `[R, in]`, float32.
    pub(super) fn down(&self, spectrum: &Spectrum, rank: i64) -> Tensor {
        let roots = spectrum.scatter.narrow(0, 0, rank).sqrt().sqrt(); // [R], √σ
        let basis = spectrum.basis.narrow(0, 0, rank); // [R, in]
        let basis = if self.whiten { basis / roots.unsqueeze(1) } else { basis };
        let basis = match self.components {
            Components::Leading | Components::Minor => basis,
            Components::Rotated => ablations::rotated(&basis),
            Components::Permuted => ablations::permuted(&basis),
            Components::Random => ablations::random(&basis),
        };
        basis.to_kind(Kind::Float).copy()
    }
}
