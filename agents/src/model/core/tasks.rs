//! The tasks of a policy that plays several, each with widths and statistics of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::bad_field::BadField;

/// The tasks of a policy by their names, as Vintix's `metadata.json` has them.
pub type Tasks = BTreeMap<String, Task>;

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The group of tasks whose encoders and head it shares.
    pub group_name: String,
    /// What its actions are: `continuous`.
    #[serde(default = "continuous")]
    pub action_type: String,
    /// A: width of an action.
    pub action_dim: i64,
    /// The widths of an observation's parts: `proprio` alone.
    pub observation_shape: BTreeMap<String, Vec<i64>>,
    /// What rewards are multiplied by.
    pub reward_scale: f32,
    /// Mean of each observation dimension over the training data.
    pub obs_mean: Vec<f32>,
    /// Standard deviation of each observation dimension over the training data; 0 where it is constant.
    pub obs_std: Vec<f32>,
    /// Keys that this program has no use for, kept so that a folder is written back whole.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn continuous() -> String {
    "continuous".to_owned()
}

/// Added to standard deviations, so that what is constant is not divided by 0.
pub const LEAST_STD: f32 = 1e-6;

impl Task {
    /// S: width of an observation; 0 where its shape is refused by [`check`].
    pub fn observation_width(&self) -> i64 {
        match self.observation_shape.get("proprio").map(Vec::as_slice) {
            Some([width]) => *width,
            _ => 0,
        }
    }
}

/// Refuses tasks that no policy can have; says which one in the error's key.
pub fn check(tasks: &Tasks) -> Result<(), BadField> {
    let mut groups: BTreeMap<&str, (&str, [i64; 2])> = BTreeMap::new();
    for (name, task) in tasks {
        let bad = |key: &str, found: String, wanted: String| {
            Err(BadField { key: format!("{name}.{key}").into(), found, wanted })
        };
        if task.action_type != continuous() {
            return bad("action_type", format!("{:?}", task.action_type), "\"continuous\"".to_owned());
        }
        let (width, actions) = (task.observation_width(), task.action_dim);
        if task.observation_shape.len() != 1 || !(1..=1 << 24).contains(&width) {
            let found = serde_json::to_string(&task.observation_shape).unwrap_or_default();
            return bad("observation_shape", found, "{\"proprio\":[width]} alone".to_owned());
        }
        if !(1..=1 << 24).contains(&actions) {
            return bad("action_dim", actions.to_string(), "a size from 1 to 16,777,216".to_owned());
        }
        if !(task.reward_scale.is_finite() && task.reward_scale > 0.0) {
            return bad("reward_scale", task.reward_scale.to_string(), "a positive number".to_owned());
        }
        for (key, list) in [("obs_mean", &task.obs_mean), ("obs_std", &task.obs_std)] {
            if list.len() as i64 != width || list.iter().any(|x| !x.is_finite()) {
                let found = format!("a list of {} numbers", list.len());
                return bad(key, found, format!("a list of {width} finite numbers"));
            }
        }
        if task.obs_std.iter().any(|std| *std < 0.0) {
            return bad("obs_std", "a list with a negative number".to_owned(), "deviations".to_owned());
        }
        let (first, widths) = groups.entry(&task.group_name).or_insert((name, [width, actions]));
        if *widths != [width, actions] {
            let found =
                format!("{:?}, with {width} numbers a state and {actions} an action", task.group_name);
            let wanted = format!("the {} and {} of `{first}` in the same group", widths[0], widths[1]);
            return bad("group_name", found, wanted);
        }
    }
    Ok(())
}
