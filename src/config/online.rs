//! `[online]`: how a run goes on with what its own rollouts bring.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::Checks;
use super::target::TargetReturn;
use crate::rollout::Inference;

/// `[online.odt]`, `[online.td3_odt]`, `[online.grpo]` or `[online.filtered_bc]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OnlineConfig {
    /// Online DT (arXiv 2202.05607): hindsight relabelling, likelihood and entropy.
    Odt(OdtConfig),
    /// Online DT's updates with TD3's gradient added (arXiv 2410.24108).
    Td3Odt(Td3OdtConfig),
    /// Group-relative policy gradients over sub-trajectories (arXiv 2601.00167).
    Grpo(GrpoConfig),
    /// Filtered behaviour cloning (BC): of the trajectories of highest return so far, offline and online.
    FilteredBc(FilteredBcConfig),
}

/// `exploration = { rounds = 10, updates_per_round = 30 }`: rounds of one episode in every environment, and of
/// updates after it.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplorationConfig {
    /// Number of rounds.
    #[schemars(range(min = 1))]
    pub rounds: usize,
    /// Updates after each round's episodes.
    #[schemars(range(min = 1))]
    pub updates_per_round: usize,
    /// The target return while exploring, in the environment's units or as a multiple of the data's best
    /// (`"best*1.5"`); the task's (`env.target_return`) where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_return: Option<TargetReturn>,
}

/// Constants of Online DT.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OdtConfig {
    /// Trajectories that the replay holds; it starts with the offline ones of highest return.
    #[schemars(range(min = 1))]
    pub replay_capacity: usize,
    /// Rounds of exploration; actions are sampled from the policy's distribution.
    pub exploration: ExplorationConfig,
}

/// Constants of Online DT with TD3's gradient.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Td3OdtConfig {
    /// Trajectories that the replay holds; it starts with the offline ones of highest return.
    #[schemars(range(min = 1))]
    pub replay_capacity: usize,
    /// Standard deviation of the exploration noise, in halves of the action range; where actions are discrete, the
    /// probability of a random one.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub noise: f32,
    /// Weight of TD3's part of the loss beside `[loss]`'s; a critic's values are scaled to 1.
    #[schemars(range(min = 0.0))]
    pub rl_weight: f64,
    /// Online updates before the critics' gradient reaches the policy.
    pub critic_warmup: usize,
    /// Discount of the critics.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub discount: f64,
    /// λ of the critics' targets: 0 looks one step ahead, as TD3 does, and 1 to the window's end.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub lambda: f64,
    /// Width of the critics' two hidden layers.
    #[schemars(range(min = 1, max = 65_536))]
    pub critic_width: i64,
    /// Learning rate of the critics.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub critic_learning_rate: f64,
    /// Polyak averaging coefficient of the target networks, at every step of the policy.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub polyak: f64,
    /// Standard deviation of the noise on the target policy's actions, which lie in [−1, 1].
    #[schemars(range(min = 0.0))]
    pub target_noise: f64,
    /// This noise is clipped to ± so much.
    #[schemars(range(min = 0.0))]
    pub target_noise_clip: f64,
    /// Updates of the critics for each of TD3's updates of the policy.
    #[schemars(range(min = 1))]
    pub policy_delay: usize,
    /// Rounds of exploration.
    pub exploration: ExplorationConfig,
}

/// Constants of group-relative policy gradients.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrpoConfig {
    /// Episodes from one initial state, whose returns are compared.
    #[schemars(range(min = 2))]
    pub group_size: usize,
    /// Discount of the returns that are compared.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub discount: f64,
    /// Clipping range of a sub-trajectory's likelihood ratio around 1.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub clip: f64,
    /// Rounds of exploration; actions are sampled from the policy's distribution.
    pub exploration: ExplorationConfig,
}

/// Constants of filtered behaviour cloning.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilteredBcConfig {
    /// Trajectories of highest return, offline and online, that are cloned.
    #[schemars(range(min = 1))]
    pub replay_capacity: usize,
    /// Standard deviation of the exploration noise, in halves of the action range; where actions are discrete, the
    /// probability of a random one.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub noise: f32,
    /// Rounds of exploration.
    pub exploration: ExplorationConfig,
}

/// What an online algorithm's options are checked beside.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnlineContext {
    /// Environments that step together.
    pub num_envs: usize,
    /// Whether the loss has an action distribution to sample from.
    pub draws: bool,
    /// How the policy acts in exploration.
    pub inference: Inference,
    /// Whether every rank keeps its own episodes alone.
    pub shards: bool,
}

impl OnlineConfig {
    /// Rounds of exploration.
    pub fn exploration(&self) -> &ExplorationConfig {
        match self {
            Self::Odt(odt) => &odt.exploration,
            Self::Td3Odt(td3) => &td3.exploration,
            Self::Grpo(grpo) => &grpo.exploration,
            Self::FilteredBc(bc) => &bc.exploration,
        }
    }

    /// The algorithm's name, for reports.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Odt(_) => "ODT",
            Self::Td3Odt(_) => "TD3+ODT",
            Self::Grpo(_) => "GRPO",
            Self::FilteredBc(_) => "filtered BC",
        }
    }

    /// Checks what types cannot, as a part of `run`.
    pub(super) fn check(&self, run: OnlineContext, checks: &mut Checks) {
        let OnlineContext { num_envs, draws, inference, shards } = run;
        match self {
            Self::Odt(odt) => {
                check_capacity("odt", odt.replay_capacity, num_envs, checks);
                checks.relation(
                    "loss",
                    "behaviour_cloning",
                    draws,
                    "[online.odt] explores with [loss.online_dt]",
                );
            }
            Self::Td3Odt(td3) => {
                check_capacity("td3_odt", td3.replay_capacity, num_envs, checks);
            }
            Self::Grpo(grpo) => {
                checks.relation(
                    "loss",
                    "behaviour_cloning",
                    draws,
                    "[online.grpo] explores with [loss.online_dt]",
                );
                checks.relation(
                    "rollout.inference",
                    "window",
                    inference == Inference::Cached,
                    "must be \"cached\" for [online.grpo], which compares likelihoods in the contexts of the cache",
                );
                let wanted =
                    "must be \"replicated\" for [online.grpo], which compares all episodes of a round";
                checks.relation("ranks.replay", "sharded", !shards, wanted);
                grpo.check(num_envs, checks);
            }
            Self::FilteredBc(bc) => {
                check_capacity("filtered_bc", bc.replay_capacity, num_envs, checks);
            }
        }
    }
}

impl GrpoConfig {
    fn check(&self, num_envs: usize, checks: &mut Checks) {
        let size = self.group_size;
        let wanted = "must divide env.num_envs, the episodes of a round";
        checks.relation("online.grpo.group_size", size, num_envs.is_multiple_of(size), wanted);
    }
}

fn check_capacity(algorithm: &str, capacity: usize, num_envs: usize, checks: &mut Checks) {
    let wanted = "must be at least env.num_envs, the episodes of a round";
    checks.relation(format!("online.{algorithm}.replay_capacity"), capacity, capacity >= num_envs, wanted);
}
