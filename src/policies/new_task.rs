//! A task that a policy does not know, described by data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use eva_rl_agents::model::{PolicyConfig, Task, Tasks};
use eva_rl_envs::ActionSpace;
use serde_json::{Map, Value, json};

use crate::data::{Dataset, Trajectory, observation_moments};
use crate::support::errors::{InputError, OrInput};

/// The file of tasks beside an adapter, in the form of Vintix's own.
const FILE: &str = "metadata.json";

/// Keys of a task that this program does not read in policies: mean and deviation of the data's actions.
const ACTIONS: [&str; 2] = ["acs_mean", "acs_std"];

/// What `datasets` say of the task `name` in `group`: widths, statistics, and a scale by which the greatest reward is 1.
pub fn task_of_data(datasets: &[Dataset], name: &str, group: &str) -> anyhow::Result<Task> {
    let ActionSpace::Box { low, .. } = &datasets[0].action else {
        let text =
            format!("the new task {name:?} has discrete actions in the data, expected continuous ones");
        return Err(InputError(text).into());
    };
    let (obs_mean, obs_std) = observation_moments(datasets);
    let trajectories = || datasets.iter().flat_map(|dataset| &dataset.trajectories);
    let rewards = trajectories().flat_map(|trajectory| &trajectory.rewards);
    let greatest = rewards.fold(0.0f32, |greatest, reward| greatest.max(reward.abs()));
    let (mean, std) = action_moments(trajectories(), low.len());
    let other: Map<String, Value> = [("task_name".to_owned(), json!(name))]
        .into_iter()
        .chain(ACTIONS.map(str::to_owned).into_iter().zip([json!(mean), json!(std)]))
        .collect();
    Ok(Task {
        group_name: group.to_owned(),
        action_type: "continuous".to_owned(),
        action_dim: low.len() as i64,
        observation_shape: BTreeMap::from([("proprio".to_owned(), vec![obs_mean.len() as i64])]),
        reward_scale: if greatest > 0.0 { greatest.recip() } else { 1.0 },
        obs_mean,
        obs_std,
        other,
    })
}

/// Mean `[A]` and standard deviation `[A]` of actions.
fn action_moments<'a>(
    trajectories: impl Iterator<Item = &'a Trajectory>,
    width: usize,
) -> (Vec<f32>, Vec<f32>) {
    let (mut count, mut sums, mut squares) = (0.0, vec![0.0; width], vec![0.0; width]);
    for trajectory in trajectories {
        for action in trajectory.actions.all().chunks(width) {
            count += 1.0;
            for (dimension, x) in action.iter().enumerate() {
                sums[dimension] += f64::from(*x);
                squares[dimension] += f64::from(*x).powi(2);
            }
        }
    }
    let mean: Vec<f64> = sums.iter().map(|sum| sum / count).collect();
    let std =
        squares.iter().zip(&mean).map(|(square, mean)| (square / count - mean * mean).max(0.0).sqrt() as f32);
    (mean.iter().map(|mean| *mean as f32).collect(), std.collect())
}

/// Mean of the actions of a task of data: `[A]`.
pub fn action_mean(task: &Task) -> Option<Vec<f32>> {
    serde_json::from_value(task.other.get(ACTIONS[0])?.clone()).ok()
}

/// Writes the tasks that a policy was given beside its own, if it was, beside the adapter in `folder`.
pub fn write_new_tasks(config: &PolicyConfig, folder: &Path) -> anyhow::Result<()> {
    if config.new_tasks.is_empty() {
        return Ok(());
    }
    let path = folder.join(FILE);
    let text = serde_json::to_string_pretty(&config.new_tasks)? + "\n";
    std::fs::write(&path, text).with_context(|| format!("cannot write {path:?}"))
}

/// The tasks that [`write_new_tasks`] has put beside an adapter.
pub fn new_tasks_beside(adapter: &Path) -> anyhow::Result<Option<Tasks>> {
    let path: PathBuf = adapter.join(FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let text = eva_rl_agents::read_text(&path).or_input()?;
    let tasks = serde_json::from_str(&text).map_err(|error| {
        let reason = eva_rl_agents::in_words(&error);
        InputError(format!("{path:?} is no list of tasks: {reason}"))
    })?;
    Ok(Some(tasks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing;

    #[test]
    fn a_task_of_data_has_its_widths_and_statistics() {
        let trajectory = testing::trajectory(vec![1.0, 3.0, 9.0], vec![1.0, -1.0, 3.0, -1.0], &[-8.0, 2.0]);
        let space = ActionSpace::Box { low: vec![-3.0; 2], high: vec![3.0; 2] };
        let dataset = testing::dataset(1, space, vec![trajectory]);
        let task = task_of_data(&[dataset], "mine", "arm").unwrap();
        assert_eq!((task.observation_width(), task.action_dim), (1, 2));
        assert_eq!((task.obs_mean.as_slice(), task.obs_std.as_slice()), (&[2.0][..], &[1.0][..]));
        assert_eq!(task.reward_scale, 0.125);
        assert_eq!(action_mean(&task).unwrap(), [2.0, -1.0]);
        assert_eq!(task.other["acs_std"], json!([1.0, 0.0]));
    }
}
