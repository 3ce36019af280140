//! What a run records of the episodes that it plays: evaluations and explorations.

use super::{
    EVAL_LENGTH, EVAL_LOSS, EVAL_RETURN, EVAL_SCORE, EVAL_STD, EVAL_SUCCESS, EVAL_TASK_RETURN,
    EVAL_TASK_SUCCESS, FPS, Metric, Place, ROLLOUT_LENGTH, ROLLOUT_LOST, ROLLOUT_RETURN, ROLLOUT_SUCCESS,
    Recorder, TIMESTEPS,
};
use crate::evaluation::{Evaluated, Evaluation};

impl Recorder {
    /// Records an evaluation: the first target return under the plain tags, each of several under its own, and each
    /// of several tasks.
    pub fn evaluation(&mut self, at: Place, evaluated: &Evaluated) -> anyhow::Result<()> {
        if let Some(loss) = evaluated.validation_loss {
            self.scalar_at(EVAL_LOSS, at, loss)?;
        }
        if evaluated.tasks.len() > 1 {
            for task in &evaluated.tasks {
                let found = &task.found;
                self.tagged(&EVAL_TASK_RETURN.tag_of(&task.env), EVAL_TASK_RETURN, at, found.mean_return)?;
                if let Some(rate) = found.success_rate {
                    self.tagged(&EVAL_TASK_SUCCESS.tag_of(&task.env), EVAL_TASK_SUCCESS, at, rate)?;
                }
            }
        }
        for (metric, value) in numbers(&evaluated.targets[0]) {
            self.scalar_at(metric, at, value)?;
        }
        if evaluated.targets.len() > 1 {
            for found in &evaluated.targets {
                let target = found.target_return.map_or("none".to_owned(), |target| target.to_string());
                for (metric, value) in numbers(found) {
                    let name = metric.tag.strip_prefix("eval/").unwrap_or(metric.tag);
                    self.tagged(&format!("eval/target_{target}/{name}"), metric, at, value)?;
                }
            }
        }
        self.flush()
    }

    /// Records a round of exploration, which played so many steps per second.
    pub fn exploration(&mut self, at: Place, explored: &Evaluation, speed: f64) -> anyhow::Result<()> {
        self.scalar_at(ROLLOUT_RETURN, at, explored.mean_return)?;
        self.scalar_at(ROLLOUT_LENGTH, at, explored.mean_length)?;
        if let Some(rate) = explored.success_rate {
            self.scalar_at(ROLLOUT_SUCCESS, at, rate)?;
        }
        if explored.lost_episodes > 0 {
            self.scalar_at(ROLLOUT_LOST, at, explored.lost_episodes as f64)?;
        }
        self.scalar_at(FPS, at, speed)?;
        self.scalar_at(TIMESTEPS, at, at.env_steps.unwrap_or(0) as f64)
    }
}

/// What the episodes of one target return come to.
fn numbers(found: &Evaluation) -> Vec<(Metric, f64)> {
    let mut numbers = vec![
        (EVAL_RETURN, found.mean_return),
        (EVAL_STD, found.std_return),
        (EVAL_LENGTH, found.mean_length),
    ];
    numbers.extend(found.success_rate.map(|rate| (EVAL_SUCCESS, rate)));
    numbers.extend(found.normalized_score.map(|score| (EVAL_SCORE, score)));
    numbers
}
