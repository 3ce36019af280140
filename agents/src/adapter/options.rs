//! Options of adapters, and what is wrong with them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lora::{Rank, Scaling};

/// Size of the adapters.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoraOptions {
    /// Rank of every target module, or their mean where ranks are allocated.
    pub rank: Rank,
    /// The adapters' scale is `alpha / rank`, or `alpha / √rank` under rsLoRA.
    pub alpha: f64,
    /// Probability that an adapter's input is zeroed in training.
    pub dropout: f64,
    /// Whether the scale is rsLoRA's.
    #[serde(default)]
    pub rslora: bool,
    /// Whether a magnitude a row is trained too, as in DoRA.
    #[serde(default)]
    pub dora: bool,
}

impl LoraOptions {
    /// Plain LoRA at this rank, with a scale of 1 and no dropout.
    pub fn new(rank: Rank) -> Self {
        Self { rank, alpha: rank.get() as f64, dropout: 0.0, rslora: false, dora: false }
    }

    /// How A and B are scaled.
    pub fn scaling(&self) -> Scaling {
        Scaling { alpha: self.alpha, rank_stabilised: self.rslora }
    }

    /// What B A is multiplied by at the rank of these options.
    pub fn scale(&self) -> f64 {
        self.scaling().scale(self.rank.get())
    }

    /// Refuses values that no adapter can have; `prefix` is what stands before their keys.
    pub fn check(&self, prefix: &str, checks: &mut OptionChecks) {
        let positive = self.alpha.is_finite() && self.alpha > 0.0;
        checks.value(format!("{prefix}alpha"), self.alpha, positive, "must be positive");
        let fits = (0.0..1.0).contains(&self.dropout);
        checks.value(format!("{prefix}dropout"), self.dropout, fits, "must lie in [0, 1)");
    }
}

/// What a run does with its adapters, by which options are checked.
#[derive(Clone, Copy, Debug)]
pub struct RunSize {
    /// Windows a batch.
    pub batch_size: usize,
    /// Updates of the whole run.
    pub updates: usize,
}

/// One option that cannot be as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct BadOption {
    /// Its key in the method's table.
    pub key: String,
    /// Its value.
    pub found: String,
    /// What it should be.
    pub wanted: String,
    /// Whether it is wrong by itself, rather than beside other options.
    pub alone: bool,
}

/// Collects every option that is wrong, so that all are told at once.
#[derive(Debug, Default)]
pub struct OptionChecks {
    /// What was found so far.
    pub bad: Vec<BadOption>,
}

impl OptionChecks {
    /// Checks a value by itself: it `fits`, or is `found` and `wanted` is expected.
    pub fn value(&mut self, key: impl Into<String>, found: impl ToString, fits: bool, wanted: &str) {
        self.check(key.into(), found.to_string(), fits, wanted, true);
    }

    /// Checks a value beside others.
    pub fn relation(&mut self, key: impl Into<String>, found: impl ToString, fits: bool, wanted: &str) {
        self.check(key.into(), found.to_string(), fits, wanted, false);
    }

    fn check(&mut self, key: String, found: String, fits: bool, wanted: &str, alone: bool) {
        if !fits {
            self.bad.push(BadOption { key, found, wanted: wanted.to_owned(), alone });
        }
    }
}
