//! What a run does, as the user wrote it in TOML, and the same once checked.
//!
//! Only this module sees TOML. A [`RunConfig`] is what was written; a [`RunPlan`] is one that was
//! checked, and the rest of the program takes nothing else.

mod adapter;
mod checks;
mod differences;
mod error;
mod load;
mod loss;
mod mistakes;
mod new_policy;
mod online;
mod optimiser;
mod overrides;
mod renamed;
mod run;
mod schema;
mod statistics_from;
mod sweep;
mod target;
mod template;

pub use adapter::AdapterConfig;
pub use differences::{Difference, differences};
pub use load::{load, load_plan, to_toml};
pub use loss::{LossConfig, OnlineDtConfig};
pub use new_policy::{ActionHeadConfig, NewDiscretisedConfig, NewPolicyConfig};
pub use online::{ExplorationConfig, FilteredBcConfig, GrpoConfig, OdtConfig, OnlineConfig, Td3OdtConfig};
pub use optimiser::{OptimiserConfig, Precision};
pub use run::{
    CheckpointConfig, DataConfig, EnvConfig, EvaluationConfig, NewTaskConfig, OfflineConfig, PolicyConfig,
    RolloutConfig, RunConfig, RunPlan,
};
pub use schema::{Key, Kind, choices};
pub use statistics_from::StatisticsFrom;
pub use sweep::{SweepPlan, SweepRun};
pub use target::TargetReturn;
pub use template::commented;
