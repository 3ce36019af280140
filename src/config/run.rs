//! A run's config, and the plan that it is once it was checked.

use std::ops::Deref;
use std::path::PathBuf;

use eva_rl_agents::adapter::RunSize;
use eva_rl_envs::{BridgeSettings, Kwargs, is_bridged};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adapter::{self, AdapterConfig};
use super::checks::Checks;
use super::error::ConfigError;
use super::loss::LossConfig;
use super::new_policy::{NewDiscretisedConfig, NewPolicyConfig};
use super::online::{OnlineConfig, OnlineContext};
use super::optimiser::OptimiserConfig;
use super::statistics_from::StatisticsFrom;
use super::target::TargetReturn;
use crate::data::{OnBadEpisode, Reading};
use crate::hub::{self, HubName};
use crate::rollout::{Actions, Inference};

/// One experiment, complete.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Seed of every random number that the run draws.
    pub seed: u64,
    /// The policy that the run starts from.
    pub policy: PolicyConfig,
    /// The task's offline trajectories.
    pub data: DataConfig,
    /// What is trained.
    pub adapter: AdapterConfig,
    /// The loss that updates minimise.
    pub loss: LossConfig,
    /// Optimisation: batch size, optimiser, learning rate and its schedule.
    pub optimiser: OptimiserConfig,
    /// Updates on the offline trajectories.
    pub offline: OfflineConfig,
    /// Online fine-tuning: rollouts, and updates on their trajectories; absent means none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<OnlineConfig>,
    /// The task's environment.
    pub env: EnvConfig,
    /// How the policy acts in exploration; absent means by the defaults.
    #[serde(default)]
    pub rollout: RolloutConfig,
    /// How and how often the policy is evaluated.
    pub evaluation: EvaluationConfig,
    /// When checkpoints are saved.
    pub checkpoint: CheckpointConfig,
    /// How the ranks that `mpirun` starts share the run; absent means by the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranks: Option<RanksConfig>,
}

/// Several ranks of one run.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RanksConfig {
    /// Seconds that a rank waits for the others before it ends all of them: more than the slowest evaluation or round of
    /// exploration of one rank may take longer than another's.
    #[schemars(range(min = 1))]
    #[serde(default = "default_rank_timeout")]
    pub timeout_secs: u64,
    /// Whether several ranks of a machine may compute on one GPU, where it has fewer than ranks.
    #[serde(default)]
    pub share_devices: bool,
    /// Which episodes of exploration a rank's replay holds.
    #[serde(default)]
    pub replay: ReplayConfig,
}

/// Which episodes of exploration a rank's replay holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayConfig {
    /// Those of all ranks: what is trained does not depend on how many there are, but for rounding.
    #[default]
    Replicated,
    /// Its own alone, with its part of the capacity, where they are large: what is trained depends on how many ranks there
    /// are.
    Sharded,
}

fn default_rank_timeout() -> u64 {
    600
}

/// `[policy.pretrained]`, or a new policy of a family.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PolicyConfig {
    /// A policy folder, or a policy of the Hugging Face Hub.
    Pretrained {
        /// A folder, relative to the one that the program is run in, or `hf:OWNER/NAME[@REVISION][/SUBFOLDER]`.
        path: PathBuf,
        /// The commit of a policy of the Hub; absent means the one that the revision is when the run begins, which the
        /// run's own config then has.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commit: Option<String>,
        /// A file of statistics, where the policy's own are missing or not wanted; or `"data"`: mean and standard
        /// deviation of the datasets' observations, their greatest return, and what else the policy lacks and they
        /// say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        statistics: Option<StatisticsFrom>,
        /// The task that is played, of a policy that knows several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<String>,
        /// That the policy does not know `task`: the data say its statistics.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        new_task: Option<NewTaskConfig>,
    },
    /// A decision transformer with random weights, normalised by the data.
    New(NewPolicyConfig),
    /// L2M's decision transformer with random weights, normalised by the data: a number is one of several bins, and the
    /// dimensions of an action are chosen one after another.
    NewL2m(NewDiscretisedConfig),
    /// LRAM's, whose context holds no actions, and which chooses all dimensions at once.
    NewLram(NewDiscretisedConfig),
}

impl PolicyConfig {
    /// Whether its weights are random.
    pub fn is_new(&self) -> bool {
        !matches!(self, Self::Pretrained { .. })
    }
}

/// A task that a policy does not know, such as another robot.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTaskConfig {
    /// The group of tasks whose encoders and head it shares. Those of a new group are initialised and normalised by the
    /// data, and trained whole beside the adapters, as PEFT's `modules_to_save`.
    pub group: String,
}

/// Minari datasets.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Folders, relative to the one that the program is run in, or `minari:NAMESPACE/NAME`; read as one dataset.
    pub datasets: Vec<PathBuf>,
    /// Whether as many windows are drawn from each dataset, instead of in proportion to their steps.
    #[serde(default)]
    pub balanced: bool,
    /// The last episodes of each dataset that no update sees; the loss on them is recorded as `eval/loss`. A new
    /// policy's normalisation is of all episodes.
    #[serde(default)]
    pub validation_episodes: usize,
    /// What to do with an episode that cannot be read, or holds what is no finite number: `"refuse"` (the default)
    /// the dataset, or `"skip"` the episode.
    #[serde(default)]
    pub on_bad_episode: OnBadEpisode,
    /// Whether recorded actions outside of their Box are clipped to it, as environments do; they make an episode bad
    /// where not.
    #[serde(default)]
    pub clip_actions: bool,
}

impl DataConfig {
    /// How faults in the episodes are taken, for a policy that reads `images` or not.
    pub fn reading(&self, images: bool) -> Reading {
        Reading { on_bad_episode: self.on_bad_episode, clip_actions: self.clip_actions, images }
    }
}

/// Updates on the offline trajectories.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OfflineConfig {
    /// Number of offline updates; may be 0.
    pub updates: usize,
}

/// The environment.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvConfig {
    /// Gymnasium's id; `envpool:ID` and `gymnasium:ID` are hosted by Python workers.
    pub id: String,
    /// Environments that step together.
    #[schemars(range(min = 1, max = 65_536))]
    pub num_envs: usize,
    /// The task's target return, in the environment's units, in evaluations and in exploration unless they name
    /// their own; `"best"` is the greatest return of the data's episodes, `"best*1.5"` one and a half times that;
    /// absent means the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_return: Option<TargetReturn>,
    /// Passed on to the environment.
    #[serde(default)]
    pub kwargs: Kwargs,
    /// How Python workers are run; absent means by their defaults, and native ids have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<BridgeSettings>,
}

impl EnvConfig {
    /// How Python workers are run, if there are any, for a policy that reads `images` or not.
    pub fn bridge(&self, images: bool) -> BridgeSettings {
        BridgeSettings { images, ..self.bridge.clone().unwrap_or_default() }
    }
}

/// How the policy acts.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutConfig {
    /// What it computes at a step of exploration: `"cached"` (the default), `"window"`, or `"reference"`.
    #[serde(default = "cached")]
    pub inference: Inference,
    /// The greatest return-to-go that the policy is conditioned on at any step, in exploration and in evaluations;
    /// absent means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_return_to_go: Option<f32>,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self { inference: cached(), max_return_to_go: None }
    }
}

fn cached() -> Inference {
    Inference::Cached
}

fn greedy() -> Actions {
    Actions::Greedy
}

fn window() -> Inference {
    Inference::Window
}

/// How and how often the policy is evaluated.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Updates between evaluations; the start and the end are evaluated too.
    #[schemars(range(min = 1))]
    pub every: usize,
    /// Episodes of each evaluation, the same ones each time.
    #[schemars(range(min = 1))]
    pub episodes: usize,
    /// Target returns, in the environment's units or as multiples of the data's best (`"best*1.5"`), of which the
    /// first decides which policy is best; the task's (`env.target_return`) where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_returns: Vec<TargetReturn>,
    /// What the policy computes at a step: `"window"` (the default), as decision transformers are evaluated,
    /// `"cached"`, which is faster, or `"reference"`, as the family's reference acts.
    #[serde(default = "window")]
    pub inference: Inference,
    /// How actions are chosen: `"greedy"` (the default), or `"sampled"` of policies with discrete or binned actions.
    #[serde(default = "greedy")]
    pub actions: Actions,
    /// Whether each dataset's own environment is played instead of `env`, with the dataset's best return as its
    /// target; what all of them say together decides which policy is best.
    #[serde(default)]
    pub on_datasets: bool,
    /// The run ends after so many evaluations in a row without a better one; absent means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub patience: Option<usize>,
}

/// When checkpoints are saved.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Updates between checkpoints; the end is saved too.
    #[schemars(range(min = 1))]
    pub every: usize,
    /// How many checkpoints are kept, the latest ones; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub keep: Option<usize>,
}

/// A config that was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct RunPlan(RunConfig);

impl RunPlan {
    /// The same with the commit of its policy, where that is of the Hub.
    pub fn with_commit(mut self, found: Option<String>) -> Self {
        if let PolicyConfig::Pretrained { commit, .. } = &mut self.0.policy {
            *commit = found;
        }
        self
    }

    /// The same with the commit of a run's policy, where it names the same policy and no commit of its own.
    pub fn keep_commit_of(mut self, run: &RunConfig) -> Self {
        if let PolicyConfig::Pretrained { path, commit: commit @ None, .. } = &mut self.0.policy
            && let PolicyConfig::Pretrained { path: same, commit: found, .. } = &run.policy
            && path == same
        {
            commit.clone_from(found);
        }
        self
    }
}

impl Deref for RunPlan {
    type Target = RunConfig;

    fn deref(&self) -> &RunConfig {
        &self.0
    }
}

impl PolicyConfig {
    /// Where the policy is that the run starts from, with its commit.
    pub fn source(&self) -> Option<PathBuf> {
        match self {
            Self::Pretrained { path, commit, .. } => Some(hub::at_commit(path, commit.as_deref())),
            Self::New(_) | Self::NewL2m(_) | Self::NewLram(_) => None,
        }
    }
}

impl RunConfig {
    /// Whether it names a return that the policy is to ask for, or a cap on it.
    pub fn names_returns(&self) -> bool {
        let exploration = self.online.as_ref().and_then(|online| online.exploration().target_return);
        [self.env.target_return, exploration].iter().any(Option::is_some)
            || self.rollout.max_return_to_go.is_some()
            || !self.evaluation.target_returns.is_empty()
    }

    /// Checks what types cannot.
    pub fn plan(self) -> Result<RunPlan, ConfigError> {
        let mut checks = Checks::default();
        self.check(&mut checks);
        checks.done()?;
        Ok(RunPlan(self))
    }

    fn check(&self, checks: &mut Checks) {
        match &self.policy {
            PolicyConfig::Pretrained { .. } => {}
            PolicyConfig::New(new) => new.check(checks),
            PolicyConfig::NewL2m(new) => new.check(checks, "new_l2m"),
            PolicyConfig::NewLram(new) => new.check(checks, "new_lram"),
        }
        if self.policy.is_new() {
            let full = matches!(self.adapter, AdapterConfig::FullFineTuning(_));
            checks.relation(
                "adapter",
                "not full_fine_tuning",
                full,
                "a new policy has nothing to adapt: use [adapter.full_fine_tuning]",
            );
        }
        if let PolicyConfig::Pretrained { path, commit, .. } = &self.policy {
            let name = HubName::of(path);
            let of_hub = name.is_some();
            checks.value(
                "policy.pretrained.path",
                format!("{path:?}"),
                !matches!(name, Some(Err(_))),
                "must be a folder or hf:OWNER/NAME[@REVISION][/SUBFOLDER]",
            );
            let commit = commit.as_deref().unwrap_or_default();
            checks.value(
                "policy.pretrained.commit",
                format!("{commit:?}"),
                commit.is_empty() || of_hub && hub::is_commit(commit),
                "must be the 40 digits of a commit, of a policy of the Hub",
            );
        }
        if let PolicyConfig::Pretrained { task, new_task: Some(_), statistics, .. } = &self.policy {
            let named = task.is_some();
            checks.relation(
                "policy.pretrained.new_task",
                "given",
                named,
                "the new task's name is missing: `task`",
            );
            let none = statistics.is_none();
            let wanted = "a new task has those of the data: leave `statistics` out";
            checks.relation("policy.pretrained.statistics", "given", none, wanted);
        }
        checks.value(
            "data.datasets",
            "empty",
            !self.data.datasets.is_empty(),
            "must name at least one dataset",
        );

        if self.env.bridge.is_some() {
            checks.relation(
                "env.bridge",
                format!("given for the native `{}`", self.env.id),
                is_bridged(&self.env.id),
                "it is for ids that begin with `envpool:` or `gymnasium:`",
            );
        }
        let evaluation = &self.evaluation;
        let targets = &evaluation.target_returns;
        let fit = targets.is_empty() || !evaluation.on_datasets;
        let wanted =
            "must be absent where `evaluation.on_datasets` is true, which takes each dataset's best return";
        let written: Vec<String> = targets.iter().map(TargetReturn::to_string).collect();
        checks.relation("evaluation.target_returns", format!("[{}]", written.join(", ")), fit, wanted);
        if let Some(online) = &self.online {
            let context = OnlineContext {
                num_envs: self.env.num_envs,
                draws: matches!(self.loss, LossConfig::OnlineDt(_)),
                inference: self.rollout.inference,
                shards: self.shards_replay(),
            };
            online.check(context, checks);
        }
        let run = RunSize { batch_size: self.optimiser.batch_size, updates: self.total_updates() };
        adapter::check(&self.adapter, run, checks);
    }

    /// Whether every rank keeps the episodes that it has played, and no others.
    pub fn shards_replay(&self) -> bool {
        self.ranks.as_ref().is_some_and(|ranks| ranks.replay == ReplayConfig::Sharded)
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
        let rounds = online.map_or(0, |online| online.rounds.saturating_mul(online.updates_per_round));
        self.offline.updates.saturating_add(rounds)
    }

    /// What a config is allowed to say and hardly means; each is a sentence.
    pub fn remarks(&self) -> Vec<String> {
        let (name, warmup) = self.optimiser.schedule.warmup();
        let total = self.total_updates();
        if warmup <= total || total == 0 {
            return Vec::new();
        }
        vec![format!(
            "`optimiser.schedule.{name}.warmup` is {warmup}, and the run has {total} updates: the learning rate never reaches its peak, it ends at {:.1}% of it",
            100.0 * total as f64 / warmup as f64
        )]
    }

    /// How the run's `update` steps, which counts from 0: online by a rate of its own, where there is one.
    pub fn optimiser_of(&self, update: usize) -> OptimiserConfig {
        let OptimiserConfig { learning_rate: rate, online_learning_rate: online, .. } = self.optimiser;
        let learning_rate = if update < self.offline.updates { rate } else { online.unwrap_or(rate) };
        OptimiserConfig { learning_rate, ..self.optimiser.clone() }
    }
}
