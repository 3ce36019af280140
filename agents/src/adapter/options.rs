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
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub alpha: f64,
    /// Probability that an adapter's input is zeroed in training.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub dropout: f64,
    /// Whether the scale is rsLoRA's.
    #[serde(default)]
    pub rslora: bool,
    /// Whether a magnitude per row is trained too, as in DoRA.
    #[serde(default)]
    pub dora: bool,
    /// Ends of the names of the modules that get adapters, convolutions among them; where there are none, the linear
    /// modules of every block.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_modules: Vec<String>,
}

impl LoraOptions {
    /// Plain LoRA at this rank, with a scale of 1 and no dropout.
    pub fn new(rank: Rank) -> Self {
        let alpha = rank.get() as f64;
        Self { rank, alpha, dropout: 0.0, rslora: false, dora: false, target_modules: Vec::new() }
    }

    /// How A and B are scaled.
    pub fn scaling(&self) -> Scaling {
        Scaling { alpha: self.alpha, rank_stabilised: self.rslora }
    }

    /// What B A is multiplied by at the rank of these options.
    pub fn scale(&self) -> f64 {
        self.scaling().scale(self.rank.get())
    }
}

/// What a run does with its adapters, by which options are checked.
#[derive(Clone, Copy, Debug)]
pub struct RunSize {
    /// Windows per batch.
    pub batch_size: usize,
    /// Updates of the whole run.
    pub updates: usize,
}

/// An option that contradicts others, or the run.
#[derive(Clone, Debug, PartialEq)]
pub struct BadOption {
    /// Its key in the method's table.
    pub key: String,
    /// Its value.
    pub found: String,
    /// What it should be.
    pub wanted: String,
}

/// Collects every contradiction, so that all are told at once. What a value may be by itself, its schema says.
#[derive(Debug, Default)]
pub struct OptionChecks {
    /// What was found so far.
    pub bad: Vec<BadOption>,
}

impl OptionChecks {
    /// Checks a value beside others: it `fits`, or is `found` and `wanted` is expected.
    pub fn relation(&mut self, key: &str, found: impl ToString, fits: bool, wanted: &str) {
        if !fits {
            self.bad.push(BadOption {
                key: key.to_owned(),
                found: found.to_string(),
                wanted: wanted.to_owned(),
            });
        }
    }
}
