//! What a run does, as the user wrote it in TOML, and the same once checked.
//!
//! Only this module sees TOML. A [`RunConfig`] is what was written; a [`RunPlan`] is one that was
//! checked, and the rest of the program takes nothing else.

mod load;

use std::ops::Deref;
use std::path::PathBuf;

use eva_rl_agents::adapter::Rank;
use eva_rl_agents::eva::{Directions, EvaError, Score, Settings, SolverKind, Stop};
use eva_rl_agents::methods::{
    AdaLora, CorDa, Ipa, LoraGa, LoraOne, Method, MiLora, Mode, Needs, OLora, PiSsa, PlainLora,
};
use eva_rl_agents::model::Activation;
use eva_rl_agents::site::Token;
use eva_rl_envs::Kwargs;
use serde::{Deserialize, Serialize};

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
    Value { key: &'static str, found: String, wanted: &'static str },
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

/// What is trained, and how it begins: `[adapter.eva]`, `[adapter.lora]`, ….
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AdapterConfig {
    /// No adapter: every weight of the policy is trained.
    FullFineTuning {},
    /// No adapter: the action head is trained.
    HeadOnly {},
    /// LoRA with a random start.
    Lora(LoraConfig),
    /// LoRA that starts from explained variance.
    Eva(EvaConfig),
    /// LoRA that starts as the weights' leading singular directions.
    Pissa(LoraConfig),
    /// LoRA that starts as the weights' trailing singular directions.
    Milora(LoraConfig),
    /// LoRA that starts from the weights' QR decomposition.
    Olora(LoraConfig),
    /// LoRA that starts from the weights as the task's inputs see them.
    Corda(CordaConfig),
    /// LoRA that starts along the gradient, and leaves the first output as it was.
    LoraGa(LoraGaConfig),
    /// LoRA that starts with a step along the gradient.
    LoraOne(LoraOneConfig),
    /// LoRA whose A is the inputs' principal directions, frozen or not.
    Ipa(IpaConfig),
    /// LoRA whose rank budget shrinks in training.
    Adalora(AdaloraConfig),
}

/// CorDA, arXiv 2406.05223.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CordaConfig {
    /// Size of the adapters.
    pub lora: LoraConfig,
    /// Batches of the data that it looks at.
    pub batches: usize,
    /// Whether the adapters take what the task's inputs use most, or what they use least.
    pub mode: Mode,
}

/// LoRA-GA, arXiv 2407.05000.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LoraGaConfig {
    /// Size of the adapters.
    pub lora: LoraConfig,
    /// Batches whose gradients are averaged.
    pub batches: usize,
    /// Stability of the start's scale; PEFT's default is 16.
    pub gamma: f64,
}

/// LoRA-One, arXiv 2502.01235.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LoraOneConfig {
    /// Size of the adapters.
    pub lora: LoraConfig,
    /// Batches whose gradients are averaged.
    pub batches: usize,
    /// What the first step is divided by.
    pub gamma: f64,
}

/// IPA, arXiv 2509.04398.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IpaConfig {
    /// Size of the adapters.
    pub lora: LoraConfig,
    /// Batches of the data that it looks at.
    pub batches: usize,
    /// Whether A stays as it begins.
    pub frozen: bool,
}

/// AdaLoRA, arXiv 2303.10512. The budget shrinks from `lora.rank` to `target_rank` a site.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AdaloraConfig {
    /// Size of the adapters at first.
    pub lora: LoraConfig,
    /// Mean rank of a site at the end.
    pub target_rank: Rank,
    /// Updates before the budget shrinks.
    pub warm_up: usize,
    /// Updates at the end during which ranks stay.
    pub last: usize,
    /// Updates between two sharings-out.
    pub every: usize,
    /// Smoothing of the sensitivity.
    pub beta1: f64,
    /// Smoothing of the uncertainty.
    pub beta2: f64,
    /// Weight of the orthogonality of A and B in the loss; PEFT's default is 0.5.
    pub orthogonality: f64,
}

impl AdapterConfig {
    /// The size of its adapters, if it has any.
    pub fn lora(&self) -> Option<&LoraConfig> {
        match self {
            Self::FullFineTuning {} | Self::HeadOnly {} => None,
            Self::Lora(lora) | Self::Pissa(lora) | Self::Milora(lora) | Self::Olora(lora) => Some(lora),
            Self::Eva(EvaConfig { lora, .. })
            | Self::Corda(CordaConfig { lora, .. })
            | Self::LoraGa(LoraGaConfig { lora, .. })
            | Self::LoraOne(LoraOneConfig { lora, .. })
            | Self::Ipa(IpaConfig { lora, .. })
            | Self::Adalora(AdaloraConfig { lora, .. }) => Some(lora),
        }
    }

    /// The method that places its adapters site by site, and the batches that it looks at; EVA is none of
    /// them, because it shares ranks out over sites.
    pub fn method(&self) -> Option<(Box<dyn Method>, usize)> {
        Some(match self {
            Self::FullFineTuning {} | Self::HeadOnly {} | Self::Eva(_) => return None,
            Self::Lora(_) => (Box::new(PlainLora), 0),
            Self::Pissa(_) => (Box::new(PiSsa), 0),
            Self::Milora(_) => (Box::new(MiLora), 0),
            Self::Olora(_) => (Box::new(OLora), 0),
            Self::Corda(corda) => (Box::new(CorDa { mode: corda.mode }), corda.batches),
            Self::LoraGa(ga) => (Box::new(LoraGa { gamma: ga.gamma }), ga.batches),
            Self::LoraOne(one) => (Box::new(LoraOne { gamma: one.gamma }), one.batches),
            Self::Ipa(ipa) => (Box::new(Ipa { frozen: ipa.frozen }), ipa.batches),
            Self::Adalora(_) => (Box::new(AdaLora), 0),
        })
    }

    /// The method's name and size, for reports.
    pub fn label(&self) -> String {
        let name = match self {
            Self::FullFineTuning {} => return "full fine-tuning".to_owned(),
            Self::HeadOnly {} => return "head only".to_owned(),
            Self::Lora(_) => "LoRA",
            Self::Eva(EvaConfig { directions, .. }) => match directions {
                Directions::Leading => "EVA",
                Directions::Rotated => "EVA-rot",
                Directions::Permuted => "EVA-perm",
                Directions::Trailing => "EVA-minor",
                Directions::Random => "LoRA with EVA's ranks",
            },
            Self::Pissa(_) => "PiSSA",
            Self::Milora(_) => "MiLoRA",
            Self::Olora(_) => "OLoRA",
            Self::Corda(_) => "CorDA",
            Self::LoraGa(_) => "LoRA-GA",
            Self::LoraOne(_) => "LoRA-One",
            Self::Ipa(IpaConfig { frozen: true, .. }) => "IPA, A frozen",
            Self::Ipa(_) => "IPA",
            Self::Adalora(_) => "AdaLoRA",
        };
        let lora = self.lora().expect("the others have adapters");
        let mut label = name.to_owned();
        if lora.dora {
            label += " + DoRA";
        }
        if lora.rslora {
            label += ", rsLoRA";
        }
        label + &format!(", rank {}", lora.rank.get())
    }
}

/// Size of the adapters.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank of every site, or their mean where EVA shares ranks out.
    pub rank: Rank,
    /// The adapters' scale is `alpha / rank`, or `alpha / √rank` under rsLoRA.
    pub alpha: f64,
    /// Probability that an adapter's input is zeroed in training.
    pub dropout: f64,
    /// Whether the scale is rsLoRA's.
    #[serde(default)]
    pub rslora: bool,
    /// Whether a magnitude a row is trained too, as in DoRA.
    #[serde(default)]
    pub dora: bool,
}

/// How EVA spends its rank budget, and when it stops looking at data.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EvaConfig {
    /// Size of the adapters.
    pub lora: LoraConfig,
    /// A site's rank may grow to `rho` times `lora.rank`; 1.0 keeps every site equal.
    pub rho: f64,
    /// The cosine at which directions count as settled, by the rule of `stop`.
    pub tau: f64,
    /// Stop after this many batches, settled or not.
    pub max_batches: usize,
    /// When data suffices.
    #[serde(default = "usual_stop")]
    pub stop: Stop,
    /// How directions are found.
    #[serde(default = "usual_solver")]
    pub solver: SolverKind,
    /// Whether activations are centred.
    #[serde(default = "yes")]
    pub centred: bool,
    /// What ranks are shared out by.
    #[serde(default = "usual_score")]
    pub score: Score,
    /// Which directions A gets; all but `leading` are controls.
    #[serde(default = "usual_directions")]
    pub directions: Directions,
    /// Whether each row of A is divided by the root of its singular value.
    #[serde(default)]
    pub whiten: bool,
    /// Kinds of tokens whose activations count; all where empty.
    #[serde(default)]
    pub tokens: Vec<Token>,
}

fn usual_stop() -> Stop {
    Stop::Halves
}

fn usual_solver() -> SolverKind {
    SolverKind::Auto
}

fn usual_score() -> Score {
    Score::Ratio
}

fn usual_directions() -> Directions {
    Directions::Leading
}

fn one() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}

impl EvaConfig {
    /// What EVA's search takes of it.
    pub fn settings(&self) -> Settings {
        Settings {
            rank: self.lora.rank,
            rho: self.rho,
            solver: self.solver,
            centred: self.centred,
            score: self.score,
            stop: self.stop,
            tau: self.tau,
            directions: self.directions,
            whiten: self.whiten,
        }
    }
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
    /// Gymnasium's id.
    pub id: String,
    /// Environments that step together.
    pub num_envs: usize,
    /// Passed on to the environment.
    #[serde(default)]
    pub kwargs: Kwargs,
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

        self.check_adapter()?;
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

    fn check_adapter(&self) -> Result<(), ConfigError> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if let Some(lora) = self.adapter.lora() {
            check("adapter: alpha", lora.alpha, positive(lora.alpha), "must be positive")?;
            let fits = (0.0..1.0).contains(&lora.dropout);
            check("adapter: dropout", lora.dropout, fits, "must lie in [0, 1)")?;
        }
        match &self.adapter {
            AdapterConfig::Eva(eva) => {
                let fits = (1.0..=1000.0).contains(&eva.rho);
                check("adapter.eva.rho", eva.rho, fits, "must lie in [1, 1000]")?;
                check("adapter.eva.tau", eva.tau, 0.0 < eva.tau && eva.tau <= 1.0, "must lie in (0, 1]")?;
                check(
                    "adapter.eva.max_batches",
                    eva.max_batches,
                    eva.max_batches >= 1,
                    "must be at least 1",
                )?;
                eva.settings().check().map_err(ConfigError::Eva)?;
                // A window has at least one real step, which is three tokens or more.
                let components = (eva.rho * eva.lora.rank.get() as f64).round() as usize;
                let windows = self.optimiser.batch_size.saturating_mul(eva.max_batches);
                let wanted =
                    "must give at least a third of rho · rank windows, so that there is a token a component";
                let fits = windows.saturating_mul(3) >= components;
                check("adapter.eva: max_batches · optimiser.batch_size", windows, fits, wanted)?;
            }
            AdapterConfig::LoraGa(LoraGaConfig { gamma, .. })
            | AdapterConfig::LoraOne(LoraOneConfig { gamma, .. }) => {
                check("adapter: gamma", gamma, positive(*gamma), "must be positive")?;
            }
            AdapterConfig::Adalora(ada) => {
                let (target, rank) = (ada.target_rank.get(), ada.lora.rank.get());
                check("adapter.adalora.target_rank", target, target <= rank, "must be at most lora.rank")?;
                let (fixed, total) = (ada.warm_up + ada.last, self.total_updates());
                let wanted = "must be below the run's updates, or ranks never shrink";
                check("adapter.adalora: warm_up + last", fixed, fixed < total, wanted)?;
                check("adapter.adalora.every", ada.every, ada.every >= 1, "must be at least 1")?;
                for (key, beta) in
                    [("adapter.adalora.beta1", ada.beta1), ("adapter.adalora.beta2", ada.beta2)]
                {
                    check(key, beta, 0.0 < beta && beta < 1.0, "must lie in (0, 1)")?;
                }
                let weight = ada.orthogonality;
                let fits = weight.is_finite() && weight >= 0.0;
                check("adapter.adalora.orthogonality", weight, fits, "must not be negative")?;
            }
            _ => {}
        }
        if let Some((method, batches)) = self.adapter.method() {
            let fits = method.needs() == Needs::Nothing || batches >= 1;
            check("adapter: batches", batches, fits, "must be at least 1")?;
        }
        Ok(())
    }

    /// Updates of the whole run.
    pub fn total_updates(&self) -> usize {
        let online = self.online.as_ref().map_or(0, |online| online.rounds * online.updates_per_round);
        self.offline.updates + online
    }
}

fn check(
    key: &'static str,
    found: impl ToString,
    fits: bool,
    wanted: &'static str,
) -> Result<(), ConfigError> {
    if fits { Ok(()) } else { Err(ConfigError::Value { key, found: found.to_string(), wanted }) }
}
