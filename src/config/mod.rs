//! What a run does, as the user wrote it in TOML, and the same once checked.
//!
//! Only this module sees TOML. A [`RunConfig`] is what was written; a [`RunPlan`] is one that was
//! checked, and the rest of the program takes nothing else.

mod adapter;
mod load;
mod new_policy;
mod objective;
mod online;
mod optimiser;
mod sweep;

use std::ops::Deref;
use std::path::PathBuf;

use eva_rl_agents::eva::EvaError;
use eva_rl_envs::{BridgeSettings, Kwargs, is_bridged};
use serde::{Deserialize, Serialize};

use crate::rollout::Inference;

pub use adapter::{AdapterConfig, LoraConfig};
use load::parse;
pub use load::{load, to_toml};
pub use new_policy::{ActionHeadConfig, NewPolicyConfig};
pub use objective::{ObjectiveConfig, OnlineDtConfig};
pub use online::{ExplorationConfig, FilteredBcConfig, GrpoConfig, OdtConfig, OnlineConfig, Td3OdtConfig};
pub use optimiser::{OptimiserConfig, PrecisionConfig, RuleConfig, ScheduleConfig};
pub use sweep::{SweepPlan, SweepRun};

/// Why a config is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config {path:?}: {reason}")]
    Read { path: PathBuf, reason: String },

    /// The text is not TOML, or not this schema.
    #[error("{place}: {reason}")]
    Parse { place: String, reason: String },

    /// An override has no `=`, or no value that TOML knows.
    #[error("--set {text}: {reason}")]
    Override { text: String, reason: String },

    /// Choices of `adapter.eva` that contradict each other.
    #[error("`adapter.eva`: {0}")]
    Eva(EvaError),

    /// A value that is typed right and cannot be.
    #[error("`{key}` is {found}, and {wanted}")]
    Value { key: String, found: String, wanted: &'static str },
}

/// One experiment, complete.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Drives everything that is drawn.
    pub seed: u64,
    /// The policy that the run starts from.
    pub policy: PolicyConfig,
    /// The task's offline trajectories.
    pub data: DataConfig,
    /// What is trained.
    pub adapter: AdapterConfig,
    /// What an update minimises.
    pub objective: ObjectiveConfig,
    /// How an update steps.
    pub optimiser: OptimiserConfig,
    /// Updates on the offline trajectories.
    pub offline: OfflineConfig,
    /// Rollouts and updates on what they bring; absent means none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<OnlineConfig>,
    /// The task's environment.
    pub env: EnvConfig,
    /// How the policy acts; absent means by the defaults.
    #[serde(default)]
    pub rollout: RolloutConfig,
    /// How and how often the policy is evaluated.
    pub evaluation: EvaluationConfig,
    /// When the run is saved.
    pub checkpoint: CheckpointConfig,
}

/// `[policy.pretrained]` or `[policy.new]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PolicyConfig {
    /// A policy folder.
    Pretrained {
        /// Relative to the folder that the program is run in.
        path: PathBuf,
        /// A file of statistics, where the policy's own are missing or not wanted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        statistics: Option<PathBuf>,
    },
    /// A decision transformer with random weights, normalised by the data.
    New(NewPolicyConfig),
}

/// Minari datasets.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Folders, read as one dataset; relative to the folder that the program is run in.
    pub datasets: Vec<PathBuf>,
    /// Whether windows are drawn evenly over datasets, instead of over their steps.
    #[serde(default)]
    pub evenly: bool,
    /// The last episodes of each dataset that no update sees; the loss on them is recorded as `eval/loss`. A new
    /// policy's normalisation is of all episodes.
    #[serde(default)]
    pub validation_episodes: usize,
}

/// Updates on the offline trajectories.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OfflineConfig {
    /// How many; may be 0.
    pub updates: usize,
}

/// The environment.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EnvConfig {
    /// Gymnasium's id; `envpool:ID` and `gymnasium:ID` are hosted by Python workers.
    pub id: String,
    /// Environments that step together.
    pub num_envs: usize,
    /// Passed on to the environment.
    #[serde(default)]
    pub kwargs: Kwargs,
    /// How Python workers are run; absent means by their defaults, and native ids have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<BridgeSettings>,
}

impl EnvConfig {
    /// How Python workers are run, if there are any.
    pub fn bridge(&self) -> BridgeSettings {
        self.bridge.clone().unwrap_or_default()
    }
}

/// How the policy acts, in exploration and in evaluations.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutConfig {
    /// What it computes at a step: `"cached"` or `"window"`.
    #[serde(default)]
    pub inference: Inference,
}

/// How and how often the policy is evaluated.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Updates between evaluations; the start and the end are evaluated too.
    pub every: usize,
    /// Episodes of each evaluation, the same ones each time.
    pub episodes: usize,
    /// Returns to ask for, in the environment's units; the first decides which policy is best.
    #[serde(default)]
    pub target_returns: Vec<f32>,
    /// Whether each dataset's own environment is played instead of `env`, asking for the dataset's best
    /// return; what all of them say together decides which policy is best.
    #[serde(default)]
    pub on_datasets: bool,
    /// The run ends after so many evaluations in a row without a better one; absent means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
}

/// When the run is saved.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Updates between checkpoints; the end is saved too.
    pub every: usize,
    /// How many checkpoints are kept, the latest ones; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<usize>,
}

/// A config that was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct RunPlan(RunConfig);

impl Deref for RunPlan {
    type Target = RunConfig;

    fn deref(&self) -> &RunConfig {
        &self.0
    }
}

impl RunConfig {
    /// Checks what types cannot.
    pub fn plan(self) -> Result<RunPlan, ConfigError> {
        if let PolicyConfig::New(new) = &self.policy {
            new.check()?;
            let full = matches!(self.adapter, AdapterConfig::FullFineTuning {});
            check(
                "adapter",
                "not full_fine_tuning",
                full,
                "a new policy has nothing to adapt: use [adapter.full_fine_tuning]",
            )?;
        }
        check("data.datasets", "empty", !self.data.datasets.is_empty(), "must name at least one dataset")?;

        self.adapter.check(self.optimiser.batch_size, self.total_updates())?;
        if let ObjectiveConfig::OnlineDt(online_dt) = &self.objective {
            online_dt.check()?;
        }
        self.optimiser.check()?;
        if let Some(online) = &self.online {
            online.check(&self)?;
        }
        check(
            "env.num_envs",
            self.env.num_envs,
            (1..=65_536).contains(&self.env.num_envs),
            "must lie in 1..=65536",
        )?;
        if let Some(bridge) = &self.env.bridge {
            check(
                "env.bridge",
                format!("given for the native `{}`", self.env.id),
                is_bridged(&self.env.id),
                "it is for ids that begin with `envpool:` or `gymnasium:`",
            )?;
            let processes = bridge.processes;
            check(
                "env.bridge.processes",
                processes,
                (1..=1024).contains(&processes),
                "must lie in 1..=1024",
            )?;
            let timeout = bridge.timeout_secs;
            check(
                "env.bridge.timeout_secs",
                timeout,
                timeout > 0.0 && timeout <= 1e6,
                "must lie in (0, 1000000]",
            )?;
            let restarts = bridge.restarts;
            check("env.bridge.restarts", restarts, restarts <= 1_000_000, "must be at most 1000000")?;
        }
        let evaluation = &self.evaluation;
        check("evaluation.every", evaluation.every, evaluation.every >= 1, "must be at least 1")?;
        check("evaluation.episodes", evaluation.episodes, evaluation.episodes >= 1, "must be at least 1")?;
        let targets = &evaluation.target_returns;
        let fit = targets.is_empty() == evaluation.on_datasets && targets.iter().all(|x| x.is_finite());
        check(
            "evaluation.target_returns",
            format!("{targets:?}"),
            fit,
            "must be a list of at least one finite number, or absent where `evaluation.on_datasets` is true",
        )?;
        if let Some(patience) = evaluation.patience {
            check("evaluation.patience", patience, patience >= 1, "must be at least 1")?;
        }
        if let Some(keep) = self.checkpoint.keep {
            check("checkpoint.keep", keep, keep >= 1, "must be at least 1")?;
        }
        check("checkpoint.every", self.checkpoint.every, self.checkpoint.every >= 1, "must be at least 1")?;
        Ok(RunPlan(self))
    }

    /// How it adapts, and how it goes on online, for reports.
    pub fn method_label(&self) -> String {
        match &self.online {
            Some(online) => format!("{}, {}", self.adapter.label(), online.label()),
            None => self.adapter.label(),
        }
    }

    /// Updates of the whole run.
    pub fn total_updates(&self) -> usize {
        let online = self.online.as_ref().map(OnlineConfig::exploration);
        self.offline.updates + online.map_or(0, |online| online.rounds * online.updates_per_round)
    }

    /// How the run's `update` steps, which counts from 0: online by a rate of its own, where there is one.
    pub fn optimiser_of(&self, update: usize) -> OptimiserConfig {
        let OptimiserConfig { learning_rate: rate, online_learning_rate: online, .. } = self.optimiser;
        let learning_rate = if update < self.offline.updates { rate } else { online.unwrap_or(rate) };
        OptimiserConfig { learning_rate, ..self.optimiser.clone() }
    }
}

fn check(
    key: impl Into<String>,
    found: impl ToString,
    fits: bool,
    wanted: &'static str,
) -> Result<(), ConfigError> {
    if fits { Ok(()) } else { Err(ConfigError::Value { key: key.into(), found: found.to_string(), wanted }) }
}
