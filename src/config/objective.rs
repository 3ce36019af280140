//! `[objective]`: what an update minimises.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigError, check};

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
    /// Deviation of an action before tanh, at the start.
    pub initial_std: f64,
    /// Weight of the entropy at the start.
    pub initial_temperature: f64,
    /// Learning rate of the temperature.
    pub temperature_learning_rate: f64,
}

impl OnlineDtConfig {
    /// Checks what types cannot.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let std = self.initial_std;
        check("objective.online_dt.initial_std", std, (0.01..=7.0).contains(&std), "must lie in [0.01, 7]")?;
        let temperature = self.initial_temperature;
        check(
            "objective.online_dt.initial_temperature",
            temperature,
            positive(temperature),
            "must be positive",
        )?;
        let rate = self.temperature_learning_rate;
        check(
            "objective.online_dt.temperature_learning_rate",
            rate,
            rate.is_finite() && rate >= 0.0,
            "must not be negative",
        )?;
        Ok(())
    }
}
