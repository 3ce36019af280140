//! What an environment is, said once: its spaces, its limits, the returns it is measured against.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::core::space::Space;

/// Where an episode stands after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The episode goes on.
    Running,
    /// The task itself ended: nothing more can be earned.
    Terminated,
    /// A time limit cut the episode: the state still had value.
    Truncated,
    /// A worker failed in the middle: nothing of the episode counts, and it is reset.
    Lost,
}

/// What an action is. A discrete action is one `f32` that holds its index, from 0 on.
#[derive(Clone, Debug, PartialEq)]
pub enum ActionSpace {
    /// `start..start + n`.
    Discrete {
        /// How many actions there are.
        n: usize,
        /// What the environment itself calls the first.
        start: i64,
    },
    /// Several discrete actions at once, one number per dimension.
    MultiDiscrete {
        /// How many actions each dimension has.
        counts: Vec<usize>,
        /// What the environment itself calls the first of each.
        starts: Vec<i64>,
    },
    /// A box; `low` and `high` have one bound per dimension, both finite.
    Box {
        /// The least value of each dimension.
        low: Vec<f32>,
        /// The greatest value of each dimension.
        high: Vec<f32>,
    },
}

impl ActionSpace {
    /// How many `f32` an action takes in a row.
    pub fn width(&self) -> usize {
        match self {
            Self::Discrete { .. } => 1,
            Self::MultiDiscrete { counts, .. } => counts.len(),
            Self::Box { low, .. } => low.len(),
        }
    }

    /// What the environment itself calls the first action of each dimension; nothing where actions are continuous.
    pub fn starts(&self) -> &[i64] {
        match self {
            Self::Discrete { start, .. } => std::slice::from_ref(start),
            Self::MultiDiscrete { starts, .. } => starts,
            Self::Box { .. } => &[],
        }
    }
}

/// What counts as success of an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    /// The task has no notion of success.
    Undefined,
    /// The goal ends the episode.
    Terminated,
    /// Failure ends the episode, so reaching the time limit is success.
    Truncated,
    /// An episode succeeds if this column of its infos is greater than 0 after any of its steps; a negative number
    /// says nothing, and of an episode of which nothing else is said success is not known.
    Info {
        /// Index in [`EnvSpec::infos`].
        column: usize,
    },
}

/// Returns between which a score is normalised: 0 for random play, 100 for an expert.
///
/// In JSON `{"random": R, "expert": E}`, or `{"random": R, "human": H}`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, f64>", into = "BTreeMap<String, f64>")]
pub struct ReferenceScores {
    /// Mean return of uniformly random actions.
    pub random: f64,
    /// Mean return of the expert that the reference names.
    pub expert: f64,
    /// Who that is.
    pub expert_is: Expert,
}

/// Whose return a reference names beside random play's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expert {
    /// A controller or a trained policy.
    Agent,
    /// A professional tester of games.
    Human,
}

impl ReferenceScores {
    /// Of a controller or a trained policy.
    pub const fn agent(random: f64, expert: f64) -> Self {
        Self { random, expert, expert_is: Expert::Agent }
    }

    /// Of a professional tester of games.
    pub const fn human(random: f64, human: f64) -> Self {
        Self { random, expert: human, expert_is: Expert::Human }
    }

    /// 0 for random play, 100 for the expert.
    pub fn normalized(&self, mean_return: f64) -> f64 {
        100.0 * (mean_return - self.random) / (self.expert - self.random)
    }

    /// What the field calls such a score.
    pub fn score_name(&self) -> &'static str {
        match self.expert_is {
            Expert::Agent => "normalised score",
            Expert::Human => "human-normalised score",
        }
    }

    fn expert_name(&self) -> &'static str {
        match self.expert_is {
            Expert::Agent => "expert",
            Expert::Human => "human",
        }
    }
}

impl fmt::Display for ReferenceScores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "random {}, {} {}", self.random, self.expert_name(), self.expert)
    }
}

impl From<ReferenceScores> for BTreeMap<String, f64> {
    fn from(scores: ReferenceScores) -> Self {
        let named = [("random", scores.random), (scores.expert_name(), scores.expert)];
        named.map(|(name, score)| (name.to_owned(), score)).into()
    }
}

impl TryFrom<BTreeMap<String, f64>> for ReferenceScores {
    type Error = &'static str;

    fn try_from(scores: BTreeMap<String, f64>) -> Result<Self, Self::Error> {
        match (scores.get("random"), scores.get("expert"), scores.get("human")) {
            (Some(random), Some(expert), None) => Ok(Self::agent(*random, *expert)),
            (Some(random), None, Some(human)) => Ok(Self::human(*random, *human)),
            _ => Err("expected `random`, and `expert` or `human`"),
        }
    }
}

/// An environment's contract.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvSpec {
    /// Gymnasium's id, such as `CartPole-v1`.
    pub id: String,
    /// Least value of each observation dimension; may be infinite.
    pub observation_low: Vec<f32>,
    /// Greatest value of each observation dimension; may be infinite.
    pub observation_high: Vec<f32>,
    /// The space of observations as an environment in Python has it, its image included: its parts say what a row's
    /// columns are. Of a native task none, because its observations are a Box of these bounds.
    pub space: Option<Space>,
    /// Channels, height and width of the image of bytes that each step shows besides, if it shows one.
    pub image: Option<[usize; 3]>,
    /// What an action is.
    pub action: ActionSpace,
    /// Steps after which an episode is truncated.
    pub max_episode_steps: u32,
    /// Gymnasium's return at which the task counts as solved.
    pub reward_threshold: Option<f64>,
    /// Returns that normalised scores refer to.
    pub reference: Option<ReferenceScores>,
    /// Names of the further numbers that each step gives.
    pub infos: Vec<String>,
    /// What counts as success.
    pub success: Success,
}

impl fmt::Display for ActionSpace {
    /// Short, however many dimensions there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discrete { n, start: 0 } => write!(f, "one of {n}"),
            Self::Discrete { n, start } => write!(f, "one of {n} from {start} on"),
            Self::MultiDiscrete { counts, starts } if counts.len() <= 8 => {
                write!(f, "one each of {counts:?}")?;
                if starts.iter().any(|start| *start != 0) {
                    write!(f, " from {starts:?} on")?;
                }
                Ok(())
            }
            Self::MultiDiscrete { counts, .. } => write!(f, "{} discrete numbers", counts.len()),
            Self::Box { low, high } if low.len() > 1 && low.len() <= 4 && !(same(low) && same(high)) => {
                let each: Vec<String> =
                    low.iter().zip(high).map(|(low, high)| format!("[{low}, {high}]")).collect();
                write!(f, "{} in {}", low.len(), each.join(" × "))
            }
            Self::Box { low, high } => {
                let least = low.iter().copied().fold(f32::INFINITY, f32::min);
                let most = high.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                write!(f, "{} in [{least}, {most}]", low.len())
            }
        }
    }
}

fn same(bounds: &[f32]) -> bool {
    bounds.iter().all(|bound| *bound == bounds[0])
}

impl EnvSpec {
    /// Seconds of the simulated world that a step takes by default, where the task has such; for videos.
    pub fn step_secs(&self) -> Option<f64> {
        Some(match self.id.as_str() {
            "CartPole-v1" | "Reacher-v5" => 0.02,
            "Pendulum-v1" | "Ant-v5" | "HalfCheetah-v5" | "InvertedDoublePendulum-v5" | "Pusher-v5" => 0.05,
            "Acrobot-v1" => 0.2,
            "Hopper-v5" | "Walker2d-v5" => 0.008,
            "Humanoid-v5" | "HumanoidStandup-v5" => 0.015,
            "InvertedPendulum-v5" | "Swimmer-v5" => 0.04,
            _ => return None,
        })
    }

    /// How many `f32` an observation takes in a row, its image aside.
    pub fn observation_width(&self) -> usize {
        self.observation_low.len()
    }

    /// Bytes of an observation's image; 0 where it has none.
    pub fn pixels(&self) -> usize {
        self.image.map_or(0, |shape| shape.iter().product())
    }
}
