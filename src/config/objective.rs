//! `[objective]`: what an update minimises.

use eva_rl_agents::loss::START_STD_RANGE;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::Checks;

/// `[objective.imitation]` or `[objective.online_dt]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ObjectiveConfig {
    /// Squared error, or cross entropy where actions are discrete: the original decision transformer's.
    Imitation {},
    /// Likelihood and entropy, with a learned temperature: Online DT's.
    OnlineDt(OnlineDtConfig),
}

/// Constants of Online DT's objective.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnlineDtConfig {
    /// Deviation of every action number at the start, in half ranges. Absent: of each, that under which the
    /// offline data's actions are likeliest around the policy's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_std: Option<f64>,
    /// Weight of the entropy at the start.
    pub initial_temperature: f64,
    /// Learning rate of the temperature.
    pub temperature_learning_rate: f64,
}

impl OnlineDtConfig {
    /// Checks what types cannot.
    pub(super) fn check(&self, checks: &mut Checks) {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if let Some(std) = self.initial_std {
            let (low, high) = START_STD_RANGE;
            let rule = "must lie in [0.01, 0.95], in half ranges of the action";
            checks.value("objective.online_dt.initial_std", std, (low..=high).contains(&std), rule);
        }
        let temperature = self.initial_temperature;
        checks.value(
            "objective.online_dt.initial_temperature",
            temperature,
            positive(temperature),
            "must be positive",
        );
        let rate = self.temperature_learning_rate;
        checks.value(
            "objective.online_dt.temperature_learning_rate",
            rate,
            rate.is_finite() && rate >= 0.0,
            "must not be negative",
        );
    }
}
