//! Statistics from outside, such as a dataset's, over those of a policy's own files.

use serde::{Deserialize, Serialize};

use super::config::{PolicyConfig, StatisticsSource};
use super::tasks::LEAST_STD;

/// What a policy must know of the data that it meets; what is absent stays as the policy has it.
///
/// As JSON it is a file of statistics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// T: steps that the policy looks back on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<i64>,
    /// Mean of each state dimension, the image aside: `[S]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_mean: Option<Vec<f32>>,
    /// Standard deviation of each state dimension, the image aside: `[S]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_std: Option<Vec<f32>>,
    /// What returns are divided by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_scale: Option<f32>,
    /// The return to ask for where the user names none, in the environment's units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_return: Option<f32>,
    /// The greatest return-to-go, in the environment's units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_return_to_go: Option<f32>,
    /// The environment's least action a dimension: `[A]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_low: Option<Vec<f32>>,
    /// The environment's greatest action a dimension: `[A]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_high: Option<Vec<f32>>,
}

impl PolicyConfig {
    /// Takes `statistics` over its own, which are `source`'s then; of a policy of several tasks they are those of the
    /// task that it plays. The result is not checked.
    pub fn take_statistics(&mut self, mut statistics: Statistics, source: StatisticsSource) {
        let task = self.task.as_ref().and_then(|task| self.tasks.get_mut(task));
        if let Some(task) = task {
            if let Some(mean) = &statistics.state_mean {
                task.obs_mean.clone_from(mean);
            }
            // What is read again later is taken here, to the bit.
            if let Some(std) = &mut statistics.state_std {
                task.obs_std = std.iter().map(|std| (std - LEAST_STD).max(0.0)).collect();
                *std = task.obs_std.iter().map(|std| std + LEAST_STD).collect();
            }
            if let Some(scale) = &mut statistics.return_scale {
                task.reward_scale = scale.recip();
                *scale = task.reward_scale.recip();
            }
        }
        fn put<T>(own: &mut Option<T>, given: Option<T>) {
            if given.is_some() {
                *own = given;
            }
        }
        put(&mut self.context_length, statistics.context_length);
        put(&mut self.state_mean, statistics.state_mean);
        put(&mut self.state_std, statistics.state_std);
        put(&mut self.return_scale, statistics.return_scale);
        put(&mut self.target_return, statistics.target_return);
        put(&mut self.max_return_to_go, statistics.max_return_to_go);
        put(&mut self.action_low, statistics.action_low);
        put(&mut self.action_high, statistics.action_high);
        self.statistics_from = source;
    }

    /// Its statistics, as a file of statistics has them.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            context_length: self.context_length,
            state_mean: self.state_mean.clone(),
            state_std: self.state_std.clone(),
            return_scale: self.return_scale,
            target_return: self.target_return,
            max_return_to_go: self.max_return_to_go,
            action_low: self.action_low.clone(),
            action_high: self.action_high.clone(),
        }
    }
}
