//! `[loss]`: what an update minimises.

use eva_rl_agents::loss::START_STD_RANGE;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::Checks;

/// `[loss.behaviour_cloning]` or `[loss.online_dt]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LossConfig {
    /// Squared error, or cross entropy where actions are discrete: the original decision transformer's.
    BehaviourCloning {},
    /// Likelihood and entropy, with a learned temperature: Online DT's.
    OnlineDt(OnlineDtConfig),
}

/// Constants of Online DT's loss.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnlineDtConfig {
    /// Initial standard deviation of every action dimension, in half ranges. Absent: of each, the one under which the
    /// offline data's actions are most likely around the policy's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_std: Option<f64>,
    /// Initial weight of the entropy.
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
            checks.value("loss.online_dt.initial_std", std, (low..=high).contains(&std), rule);
        }
        let temperature = self.initial_temperature;
        checks.value(
            "loss.online_dt.initial_temperature",
            temperature,
            positive(temperature),
            "must be positive",
        );
        let rate = self.temperature_learning_rate;
        checks.value(
            "loss.online_dt.temperature_learning_rate",
            rate,
            rate.is_finite() && rate >= 0.0,
            "must not be negative",
        );
    }
}
