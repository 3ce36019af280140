//! `[optimiser]`: how an update steps.

use eva_rl_agents::optimiser::{Algorithm, Schedule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

fn one() -> f64 {
    1.0
}

/// Optimisation: batch size, optimiser, learning rate and its schedule.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptimiserConfig {
    /// Windows per batch.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// The optimiser.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// Peak learning rate.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub learning_rate: f64,
    /// Peak learning rate of the updates that follow exploration; absent means the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub online_learning_rate: Option<f64>,
    /// Decoupled weight decay of matrices.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub weight_decay: f64,
    /// LoRA+ (arXiv 2402.12354): B learns so many times as fast as A.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub lora_plus_ratio: f64,
    /// Gradients are scaled down to this joint norm.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub gradient_clip: f64,
    /// The learning rate over the run's updates.
    pub schedule: Schedule,
    /// Precision of matrix products in the forward and backward passes of updates.
    #[serde(default)]
    pub precision: Precision,
}

/// `precision = "single"` or `"mixed"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// float32.
    #[default]
    Single,
    /// bfloat16 in linear maps and attention; weights, sums and the optimiser stay float32. Meant for GPUs.
    Mixed,
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
