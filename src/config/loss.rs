//! `[loss]`: what an update minimises.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// Initial standard deviation of every action dimension, in halves of the action range. Absent: of each, the one under which the
    /// offline data's actions are most likely around the policy's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 0.95))]
    pub initial_std: Option<f64>,
    /// Initial weight of the entropy.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub initial_temperature: f64,
    /// Learning rate of the temperature.
    #[schemars(range(min = 0.0))]
    pub temperature_learning_rate: f64,
}
