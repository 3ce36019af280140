//! What there is to choose of EVA, with the paper's or PEFT's way among it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{EvaError, controls};
use crate::adapter::{Origin, Rank};
use crate::linalg::{End, Gram, IncrementalPca, Sketch, Solver, Spectrum};

/// Up to so many columns of a sketch's test matrix a width, the exact covariance costs about as little.
const GRAM_COLUMNS: i64 = 9;

/// Up to this width it costs little whatever the rank.
const GRAM_WIDTH: i64 = 128;

/// How EVA finds directions, spends its rank budget, and knows when it has seen enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Mean rank of a site; the budget is this times the number of sites.
    pub rank: Rank,
    /// A site's rank is at most `round(rho · rank)`.
    pub rho: f64,
    /// How directions are found.
    pub solver: SolverKind,
    /// Whether activations are centred, as PEFT and Algorithm 2 do; else it is E[x xᵀ], as in Theorem 3.2.
    pub centred: bool,
    /// What ranks are shared out by.
    pub score: Score,
    /// When data suffices.
    pub stop: Stop,
    /// The cosine that `stop` asks for.
    pub tau: f64,
    /// Which directions A gets.
    pub directions: Directions,
    /// Whether each row of A is divided by the root of its singular value, as PEFT's `whiten` does.
    pub whiten: bool,
}

impl Settings {
    /// What an adapter's folder says of a search by these settings.
    pub fn origin(&self) -> Origin {
        Origin::Eva { rho: self.rho, tau: (self.stop == Stop::Turn).then_some(self.tau) }
    }

    /// EVA as the paper has it, at this mean rank.
    pub fn new(rank: Rank) -> Self {
        Self {
            rank,
            rho: 2.0,
            solver: SolverKind::Auto,
            centred: true,
            score: Score::Ratio,
            stop: Stop::Halves,
            tau: Stop::Halves.usual_tau(),
            directions: Directions::Leading,
            whiten: false,
        }
    }

    /// Refuses choices that contradict each other.
    pub fn check(&self) -> Result<(), EvaError> {
        let contradiction = |found, wanted| Err(EvaError::Contradiction { found, wanted });
        if self.solver == SolverKind::Incremental && self.stop == Stop::Halves {
            return contradiction("solver `incremental`, which keeps no halves to compare", "stop `turn`");
        }
        let exact = matches!(self.solver, SolverKind::Auto | SolverKind::Gram);
        if self.directions == Directions::Trailing && !exact {
            return contradiction(
                "directions `trailing`, which only the whole covariance shows",
                "solver `gram`",
            );
        }
        if self.directions == Directions::Trailing && self.rho != 1.0 {
            return contradiction(
                "directions `trailing`, whose variance says nothing of their worth",
                "rho 1",
            );
        }
        Ok(())
    }

    /// Directions that are looked for at a site `width` wide.
    pub(super) fn candidates(&self, width: i64) -> i64 {
        ((self.rank.get() as f64 * self.rho).round() as i64).min(width)
    }

    /// The solver of a site `width` wide.
    pub(super) fn solver(&self, width: i64, device: Device) -> Box<dyn Solver> {
        let components = self.candidates(width);
        let end = if self.directions == Directions::Trailing { End::Trailing } else { End::Leading };
        let narrow =
            width <= GRAM_WIDTH.max(GRAM_COLUMNS * Sketch::columns(components)) || end == End::Trailing;
        match self.solver {
            SolverKind::Incremental => Box::new(IncrementalPca::new(components, width, self.centred, device)),
            SolverKind::Sketch => Box::new(Sketch::new(components, width, self.centred)),
            SolverKind::Auto if !narrow => Box::new(Sketch::new(components, width, self.centred)),
            SolverKind::Gram | SolverKind::Auto => Box::new(Gram::new(components, width, self.centred, end)),
        }
    }
}

/// How directions are found; see [`crate::linalg`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SolverKind {
    /// Gram where a site is narrow, sketch where it is wide.
    Auto,
    /// PEFT's incremental PCA.
    Incremental,
    /// The exact covariance.
    Gram,
    /// The covariance through a thin test matrix.
    Sketch,
}

/// What ranks are shared out by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// Share of the site's whole variance: PEFT's, and the official code's default.
    Ratio,
    /// `σⱼ² / ((M − 1)·‖σ‖₁)` over the site's candidates: the paper's Eq. 6.
    Paper,
}

/// When data suffices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// Once no batch turns a used direction by more than `tau`'s angle: PEFT's rule, which sees how little
    /// one batch among many changes, not how far off they all are.
    Turn,
    /// Once the directions found lie within `tau`'s angle, in root mean square over the whole budget, of those
    /// that all of the data has, as the data's two halves tell: they share no row, so that each half errs
    /// on its own, and their mean squared sine is four times that of both together. Of N batches drawn without
    /// replacement, n err by 1 − n/N of what they would in endless data, and all N by nothing.
    Halves,
}

impl Stop {
    /// The cosine to ask for where nobody says: PEFT's 0.99, or 0.995, which finds closer directions than that.
    pub fn usual_tau(self) -> f64 {
        match self {
            Self::Turn => 0.99,
            Self::Halves => 0.995,
        }
    }
}

/// Which directions A gets: EVA's, or one of the controls of the paper's ablations (Tables 12 and 25).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Directions {
    /// Those of most variance: EVA.
    Leading,
    /// The same, rotated at random among themselves: EVA-rot.
    Rotated,
    /// Their entries, permuted between components: EVA-perm.
    Permuted,
    /// Those of least variance: EVA-minor. Wants the gram solver.
    Trailing,
    /// LoRA's random ones, with EVA's ranks.
    Random,
}

impl Score {
    /// What each candidate direction of a site is worth.
    pub(super) fn of(self, spectrum: &Spectrum) -> Vec<f64> {
        match self {
            Self::Ratio => spectrum.explained_ratio(),
            Self::Paper => {
                let sigma = spectrum.singular_values();
                let scale = (spectrum.rows as f64 - 1.0) * sigma.iter().sum::<f64>();
                sigma.iter().map(|sigma| if scale > 0.0 { sigma * sigma / scale } else { 0.0 }).collect()
            }
        }
    }
}

impl Settings {
    /// A with the first `rank` directions: `[R, in]`, float32.
    pub(super) fn first(&self, spectrum: &Spectrum, rank: i64) -> Tensor {
        let roots = spectrum.scatter.narrow(0, 0, rank).sqrt().sqrt(); // [R], √σ
        let basis = spectrum.basis.narrow(0, 0, rank); // [R, in]
        let basis = if self.whiten { basis / roots.unsqueeze(1) } else { basis };
        let basis = match self.directions {
            Directions::Leading | Directions::Trailing => basis,
            Directions::Rotated => controls::rotated(&basis),
            Directions::Permuted => controls::permuted(&basis),
            Directions::Random => controls::random(&basis),
        };
        basis.to_kind(Kind::Float).copy()
    }
}
