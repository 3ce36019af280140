//! What a run does, as the user wrote it in TOML, and the same once checked.
//!
//! Only this module sees TOML. A [`RunConfig`] is what was written; a [`RunPlan`] is one that was
//! checked, and the rest of the program takes nothing else.

mod adapter;
mod load;

use std::ops::Deref;
use std::path::PathBuf;

use eva_rl_agents::eva::EvaError;
use eva_rl_agents::model::Activation;
use eva_rl_agents::site::Token;
use eva_rl_envs::{BridgeSettings, Kwargs, is_bridged};
use serde::{Deserialize, Serialize};

pub use adapter::{AdapterConfig, LoraConfig};
pub use load::{load, to_toml};

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

/// Size and conditioning of a new policy.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NewPolicyConfig {
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Blocks.
    pub layers: i64,
    /// Attention heads.
    pub heads: i64,
    /// Dropout of embeddings, attention and residual branches.
    pub dropout: f64,
    /// Steps that the policy looks back on.
    pub context_length: i64,
    /// Timesteps that have an embedding.
    pub max_episode_length: i64,
    /// What returns are divided by.
    pub return_scale: f32,
    /// The return to ask for by default, in the environment's units.
    pub target_return: f32,
    /// The tokens of a step; the action is read at the token before its own.
    #[serde(default = "usual_tokens")]
    pub tokens: Vec<Token>,
    /// Whether a token's place in the window is embedded, beside its timestep.
    #[serde(default)]
    pub global_positions: bool,
    /// How continuous actions are chosen; discrete ones always by logits.
    #[serde(default)]
    pub action_head: ActionHeadConfig,
    /// The feed-forward parts' activation function.
    #[serde(default = "usual_activation")]
    pub activation: Activation,
}

fn usual_tokens() -> Vec<Token> {
    vec![Token::Return, Token::State, Token::Action]
}

fn usual_activation() -> Activation {
    Activation::Relu
}

/// `action_head = { continuous = {} }` or `{ binned = { bins = 64 } }`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ActionHeadConfig {
    /// A number a dimension, squashed by tanh and trained by squared error.
    Continuous {},
    /// One of evenly spaced numbers a dimension, trained by cross entropy.
    Binned {
        /// How many.
        bins: i64,
    },
}

impl Default for ActionHeadConfig {
    fn default() -> Self {
        Self::Continuous {}
    }
}

/// Minari datasets.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Folders, read as one dataset; relative to the folder that the program is run in.
    pub datasets: Vec<PathBuf>,
}

/// `[objective.imitation]` or `[objective.online_dt]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ObjectiveConfig {
    /// Squared error, or cross entropy where actions are discrete: the original decision transformer's.
    Imitation {},
    /// Likelihood and entropy, with a learned temperature: Online DT's.
    OnlineDt(OnlineDtConfig),
}

/// Constants of Online DT's objective.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OnlineDtConfig {
    /// Deviation of an action before tanh, at the start.
    pub initial_std: f64,
    /// Weight of the entropy at the start.
    pub initial_temperature: f64,
    /// Learning rate of the temperature.
    pub temperature_learning_rate: f64,
}

fn one() -> f64 {
    1.0
}

/// How an update steps.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OptimiserConfig {
    /// Windows a batch.
    pub batch_size: usize,
    /// Peak learning rate of AdamW.
    pub learning_rate: f64,
    /// Decoupled weight decay of matrices.
    pub weight_decay: f64,
    /// LoRA+ (arXiv 2402.12354): B learns so many times as fast as A.
    #[serde(default = "one")]
    pub lora_plus_ratio: f64,
    /// Gradients are scaled down to this joint norm.
    pub gradient_clip: f64,
    /// The learning rate over the run's updates.
    pub schedule: ScheduleConfig,
}

/// `schedule = { constant = { … } }` or `{ cosine = { … } }`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// Stays after warm-up.
    Constant {
        /// Updates over which the rate rises to its peak.
        warm_up: usize,
    },
    /// Falls to zero along half a cosine after warm-up.
    Cosine {
        /// Updates over which the rate rises to its peak.
        warm_up: usize,
    },
}

/// Updates on the offline trajectories.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OfflineConfig {
    /// How many; may be 0.
    pub updates: usize,
}

/// Rounds of rollouts and updates. A round plays one episode in every environment.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OnlineConfig {
    /// How many rounds.
    pub rounds: usize,
    /// Updates after each round's episodes.
    pub updates_per_round: usize,
    /// Trajectories that the replay holds; it starts with the offline ones of highest return.
    pub replay_capacity: usize,
    /// The return to ask for while exploring, in the environment's units.
    pub target_return: f32,
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

/// How and how often the policy is evaluated.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Updates between evaluations; the start and the end are evaluated too.
    pub every: usize,
    /// Episodes of each evaluation, the same ones each time.
    pub episodes: usize,
    /// Returns to ask for, in the environment's units; the first decides which policy is best.
    pub target_returns: Vec<f32>,
}

/// When the run is saved.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Updates between checkpoints; the end is saved too.
    pub every: usize,
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
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if let PolicyConfig::New(new) = &self.policy {
            for (key, size) in [
                ("policy.new.hidden_size", new.hidden_size),
                ("policy.new.layers", new.layers),
                ("policy.new.heads", new.heads),
                ("policy.new.context_length", new.context_length),
                ("policy.new.max_episode_length", new.max_episode_length),
            ] {
                check(key, size, (1..=1 << 20).contains(&size), "must lie in 1..=1048576")?;
            }
            check(
                "policy.new.heads",
                new.heads,
                new.hidden_size % new.heads == 0,
                "must divide policy.new.hidden_size",
            )?;
            check(
                "policy.new.dropout",
                new.dropout,
                (0.0..1.0).contains(&new.dropout),
                "must lie in [0, 1)",
            )?;
            let scale = new.return_scale;
            check("policy.new.return_scale", scale, positive(f64::from(scale)), "must be positive")?;
            let target = new.target_return;
            check("policy.new.target_return", target, target.is_finite(), "must be finite")?;
            if let ActionHeadConfig::Binned { bins } = new.action_head {
                let key = "policy.new.action_head.binned.bins";
                check(key, bins, (2..=65_536).contains(&bins), "must lie in 2..=65536")?;
            }
            let counted = |token| new.tokens.iter().filter(|other| **other == token).count();
            let whole =
                [Token::Return, Token::State, Token::Action].into_iter().all(|token| counted(token) == 1);
            check(
                "policy.new.tokens",
                format!("{:?}", new.tokens),
                whole && counted(Token::Reward) <= 1 && new.tokens[0] != Token::Action,
                "must hold return, state and action once each, reward at most once, and not begin with the action",
            )?;
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
        if let ObjectiveConfig::OnlineDt(dt) = &self.objective {
            let std = dt.initial_std;
            check(
                "objective.online_dt.initial_std",
                std,
                (0.01..=7.0).contains(&std),
                "must lie in [0.01, 7]",
            )?;
            let temperature = dt.initial_temperature;
            check(
                "objective.online_dt.initial_temperature",
                temperature,
                positive(temperature),
                "must be positive",
            )?;
            let rate = dt.temperature_learning_rate;
            check(
                "objective.online_dt.temperature_learning_rate",
                rate,
                rate.is_finite() && rate >= 0.0,
                "must not be negative",
            )?;
        }
        let optimiser = &self.optimiser;
        check("optimiser.batch_size", optimiser.batch_size, optimiser.batch_size >= 1, "must be at least 1")?;
        check(
            "optimiser.learning_rate",
            optimiser.learning_rate,
            positive(optimiser.learning_rate),
            "must be positive",
        )?;
        let ratio = optimiser.lora_plus_ratio;
        check("optimiser.lora_plus_ratio", ratio, positive(ratio), "must be positive")?;
        check(
            "optimiser.weight_decay",
            optimiser.weight_decay,
            (0.0..=1.0).contains(&optimiser.weight_decay),
            "must lie in [0, 1]",
        )?;
        check(
            "optimiser.gradient_clip",
            optimiser.gradient_clip,
            positive(optimiser.gradient_clip),
            "must be positive",
        )?;

        if let Some(online) = &self.online {
            check(
                "online.rounds",
                online.rounds,
                online.rounds >= 1,
                "must be at least 1; leave [online] out for none",
            )?;
            check(
                "online.updates_per_round",
                online.updates_per_round,
                online.updates_per_round >= 1,
                "must be at least 1",
            )?;
            check(
                "online.replay_capacity",
                online.replay_capacity,
                online.replay_capacity >= self.env.num_envs,
                "must be at least env.num_envs, the episodes of a round",
            )?;
            check(
                "online.target_return",
                online.target_return,
                online.target_return.is_finite(),
                "must be finite",
            )?;
            let samples = matches!(self.objective, ObjectiveConfig::OnlineDt(_));
            check("objective", "imitation", samples, "[online] explores with [objective.online_dt]")?;
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
        let fit = !targets.is_empty() && targets.iter().all(|target| target.is_finite());
        check(
            "evaluation.target_returns",
            format!("{targets:?}"),
            fit,
            "must be a list of at least one finite number",
        )?;
        check("checkpoint.every", self.checkpoint.every, self.checkpoint.every >= 1, "must be at least 1")?;
        Ok(RunPlan(self))
    }

    /// Updates of the whole run.
    pub fn total_updates(&self) -> usize {
        let online = self.online.as_ref().map_or(0, |online| online.rounds * online.updates_per_round);
        self.offline.updates + online
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
