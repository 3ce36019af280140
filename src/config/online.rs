//! `[online]`: how a run goes on with what its own rollouts bring.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::Checks;
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
    /// Imitation of the best trajectories seen so far.
    FilteredBc(FilteredBcConfig),
}

/// `exploration = { rounds = 10, updates_per_round = 30 }`: rounds of one episode in every environment, and of
/// updates after it.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplorationConfig {
    /// How many rounds.
    pub rounds: usize,
    /// Updates after each round's episodes.
    pub updates_per_round: usize,
    /// The target return while exploring, in the environment's units; the task's (`env.target_return`) where
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_return: Option<f32>,
}

/// Constants of Online DT.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OdtConfig {
    /// Trajectories that the replay holds; it starts with the offline ones of highest return.
    pub replay_capacity: usize,
    /// Its rounds; actions are drawn from the policy's distribution.
    pub exploration: ExplorationConfig,
}

/// Constants of Online DT with TD3's gradient.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Td3OdtConfig {
    /// Trajectories that the replay holds; it starts with the offline ones of highest return.
    pub replay_capacity: usize,
    /// Deviation of exploration's normal noise in half-ranges, or the probability of a random action.
    pub noise: f32,
    /// Weight of TD3's part of the loss beside `[loss]`'s; a critic's values are scaled to 1.
    pub rl_weight: f64,
    /// Updates online before the critics are listened to.
    pub critic_warmup: usize,
    /// Discount of the critics.
    pub discount: f64,
    /// λ of the critics' targets: 0 looks one step ahead, as TD3 does, and 1 to the window's end.
    pub lambda: f64,
    /// Width of the critics' two hidden layers.
    pub critic_width: i64,
    /// Learning rate of the critics.
    pub critic_learning_rate: f64,
    /// Share by which target networks follow at every step of the policy.
    pub polyak: f64,
    /// Deviation of the noise on the target policy's actions, which lie in [−1, 1].
    pub target_noise: f64,
    /// Furthest that this noise goes.
    pub target_noise_clip: f64,
    /// Steps of the critics for each of TD3's on the policy.
    pub policy_delay: usize,
    /// Its rounds.
    pub exploration: ExplorationConfig,
}

/// Constants of group-relative policy gradients.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrpoConfig {
    /// Episodes of one start, whose returns are compared.
    pub group_size: usize,
    /// Discount of the returns that are compared.
    pub discount: f64,
    /// Furthest that a sub-trajectory's likelihood ratio may lie from 1 and still count.
    pub clip: f64,
    /// Its rounds; actions are drawn from the policy's distribution.
    pub exploration: ExplorationConfig,
}

/// Constants of filtered behaviour cloning.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilteredBcConfig {
    /// Trajectories of highest return, offline and online, that are cloned.
    pub replay_capacity: usize,
    /// Deviation of exploration's normal noise in half-ranges, or the probability of a random action.
    pub noise: f32,
    /// Its rounds.
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
}

impl OnlineConfig {
    /// Its rounds.
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
        let OnlineContext { num_envs, draws, inference } = run;
        match self {
            Self::Odt(odt) => {
                odt.exploration.check("odt", checks);
                check_capacity("odt", odt.replay_capacity, num_envs, checks);
                checks.relation(
                    "loss",
                    "behaviour_cloning",
                    draws,
                    "[online.odt] explores with [loss.online_dt]",
                );
            }
            Self::Td3Odt(td3) => {
                td3.exploration.check("td3_odt", checks);
                check_noise("td3_odt", td3.noise, checks);
                td3.check(checks);
                check_capacity("td3_odt", td3.replay_capacity, num_envs, checks);
            }
            Self::Grpo(grpo) => {
                grpo.exploration.check("grpo", checks);
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
                grpo.check(num_envs, checks);
            }
            Self::FilteredBc(bc) => {
                bc.exploration.check("filtered_bc", checks);
                check_noise("filtered_bc", bc.noise, checks);
                check_capacity("filtered_bc", bc.replay_capacity, num_envs, checks);
            }
        }
    }
}

impl ExplorationConfig {
    fn check(&self, algorithm: &str, checks: &mut Checks) {
        let key = |name: &str| format!("online.{algorithm}.exploration.{name}");
        let wanted = "must be at least 1; leave [online] out for none";
        checks.value(key("rounds"), self.rounds, self.rounds >= 1, wanted);
        let updates = self.updates_per_round;
        checks.value(key("updates_per_round"), updates, updates >= 1, "must be at least 1");
        let target = self.target_return;
        checks.value(
            key("target_return"),
            target.unwrap_or_default(),
            target.is_none_or(f32::is_finite),
            "must be finite",
        );
    }
}

impl Td3OdtConfig {
    fn check(&self, checks: &mut Checks) {
        let key = |name: &str| format!("online.td3_odt.{name}");
        let from_0 = |x: f64| x.is_finite() && x >= 0.0;
        checks.value(key("rl_weight"), self.rl_weight, from_0(self.rl_weight), "must not be negative");
        check_discount("td3_odt", self.discount, checks);
        let lambda = self.lambda;
        checks.value(key("lambda"), lambda, (0.0..=1.0).contains(&lambda), "must lie in [0, 1]");
        let width = self.critic_width;
        checks.value(key("critic_width"), width, (1..=65_536).contains(&width), "must lie in 1..=65536");
        let rate = self.critic_learning_rate;
        checks.value(key("critic_learning_rate"), rate, from_0(rate) && rate > 0.0, "must be positive");
        let polyak = self.polyak;
        checks.value(key("polyak"), polyak, polyak > 0.0 && polyak <= 1.0, "must lie in (0, 1]");
        for (name, noise) in
            [("target_noise", self.target_noise), ("target_noise_clip", self.target_noise_clip)]
        {
            checks.value(key(name), noise, from_0(noise), "must not be negative");
        }
        let delay = self.policy_delay;
        checks.value(key("policy_delay"), delay, delay >= 1, "must be at least 1");
    }
}

impl GrpoConfig {
    fn check(&self, num_envs: usize, checks: &mut Checks) {
        check_discount("grpo", self.discount, checks);
        checks.value("online.grpo.clip", self.clip, self.clip > 0.0 && self.clip < 1.0, "must lie in (0, 1)");
        let size = self.group_size;
        checks.value("online.grpo.group_size", size, size >= 2, "must be at least 2");
        let wanted = "must divide env.num_envs, the episodes of a round";
        checks.relation("online.grpo.group_size", size, num_envs.is_multiple_of(size), wanted);
    }
}

fn check_capacity(algorithm: &str, capacity: usize, num_envs: usize, checks: &mut Checks) {
    checks.value(
        format!("online.{algorithm}.replay_capacity"),
        capacity,
        capacity >= 1,
        "must be at least 1",
    );
    let wanted = "must be at least env.num_envs, the episodes of a round";
    checks.relation(format!("online.{algorithm}.replay_capacity"), capacity, capacity >= num_envs, wanted);
}

fn check_noise(algorithm: &str, noise: f32, checks: &mut Checks) {
    checks.value(
        format!("online.{algorithm}.noise"),
        noise,
        (0.0..=1.0).contains(&noise),
        "must lie in [0, 1]",
    );
}

fn check_discount(algorithm: &str, discount: f64, checks: &mut Checks) {
    let fits = discount > 0.0 && discount <= 1.0;
    checks.value(format!("online.{algorithm}.discount"), discount, fits, "must lie in (0, 1]");
}
