//! `[optimiser]`: how an update steps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::Checks;

fn one() -> f64 {
    1.0
}

fn adamw() -> RuleConfig {
    RuleConfig::Adamw {}
}

/// How an update steps.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptimiserConfig {
    /// Windows a batch.
    pub batch_size: usize,
    /// What a step makes of gradients.
    #[serde(default = "adamw")]
    pub rule: RuleConfig,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Peak learning rate of the updates that follow exploration; absent means the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online_learning_rate: Option<f64>,
    /// Decoupled weight decay of matrices.
    pub weight_decay: f64,
    /// LoRA+ (arXiv 2402.12354): B learns so many times as fast as A.
    #[serde(default = "one")]
    pub lora_plus_ratio: f64,
    /// Gradients are scaled down to this joint norm.
    pub gradient_clip: f64,
    /// The learning rate over the run's updates.
    pub schedule: ScheduleConfig,
    /// In what the forward and backward passes of updates multiply.
    #[serde(default)]
    pub precision: PrecisionConfig,
}

/// `precision = "single"` or `"mixed"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrecisionConfig {
    /// float32.
    #[default]
    Single,
    /// bfloat16 in linear maps and attention; weights, sums and the optimiser stay float32. Meant for GPUs.
    Mixed,
}

/// `rule = { adamw = {} }` or `{ lamb = {} }`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RuleConfig {
    /// AdamW (arXiv 1711.05101).
    Adamw {},
    /// LAMB (arXiv 1904.00962): a matrix's step is as long as its rate times its norm; vectors and adapters' B,
    /// which begin at zero, step as AdamW's.
    Lamb {},
}

/// `schedule = { constant = { … } }`, `{ linear = { … } }` or `{ cosine = { … } }`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// Stays after warm-up.
    Constant {
        /// Updates over which the rate rises to its peak.
        warm_up: usize,
    },
    /// Falls to zero along a line after warm-up.
    Linear {
        /// Updates over which the rate rises to its peak.
        warm_up: usize,
    },
    /// Falls to zero along half a cosine after warm-up.
    Cosine {
        /// Updates over which the rate rises to its peak.
        warm_up: usize,
    },
}

impl ScheduleConfig {
    /// Its table's name, and the updates over which the rate rises.
    pub(super) fn warm_up(&self) -> (&'static str, usize) {
        match *self {
            Self::Constant { warm_up } => ("constant", warm_up),
            Self::Linear { warm_up } => ("linear", warm_up),
            Self::Cosine { warm_up } => ("cosine", warm_up),
        }
    }
}

impl OptimiserConfig {
    /// Checks what types cannot.
    pub(super) fn check(&self, checks: &mut Checks) {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        checks.value("optimiser.batch_size", self.batch_size, self.batch_size >= 1, "must be at least 1");
        checks.value(
            "optimiser.learning_rate",
            self.learning_rate,
            positive(self.learning_rate),
            "must be positive",
        );
        if let Some(rate) = self.online_learning_rate {
            checks.value("optimiser.online_learning_rate", rate, positive(rate), "must be positive");
        }
        let ratio = self.lora_plus_ratio;
        checks.value("optimiser.lora_plus_ratio", ratio, positive(ratio), "must be positive");
        checks.value(
            "optimiser.weight_decay",
            self.weight_decay,
            (0.0..=1.0).contains(&self.weight_decay),
            "must lie in [0, 1]",
        );
        checks.value(
            "optimiser.gradient_clip",
            self.gradient_clip,
            positive(self.gradient_clip),
            "must be positive",
        );
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::load;

    #[test]
    fn online_updates_step_by_their_own_rate_where_there_is_one() {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/demo.toml");
        let rates = |more: &[&str]| {
            let sets = ["offline.updates=300", "optimiser.learning_rate=1e-3"].iter().chain(more);
            let sets: Vec<String> = sets.map(|set| (*set).to_owned()).collect();
            let plan = load(&demo, &sets).unwrap().plan().unwrap();
            [299, 300].map(|update| plan.optimiser_of(update).learning_rate)
        };
        assert_eq!(rates(&["optimiser.online_learning_rate=1e-4"]), [1e-3, 1e-4]);
        let demo_s_own = load(&demo, &[]).unwrap().optimiser.online_learning_rate.is_some();
        if !demo_s_own {
            assert_eq!(rates(&[]), [1e-3, 1e-3]);
        }
    }
}
