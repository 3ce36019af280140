//! One episode, and the episodes of one task.

use eva_rl_envs::{ActionSpace, EnvSpec, Kwargs, Phase};

use super::numbers::Numbers;

/// One episode.
#[derive(Clone, Debug, PartialEq)]
pub struct Trajectory {
    /// `[T + 1, S]`.
    pub observations: Numbers,
    /// `[T, A]`; a discrete action is one number, its index.
    pub actions: Numbers,
    /// `[T]`.
    pub rewards: Vec<f32>,
    /// How it ended; `Running` where nobody said.
    pub end: Phase,
    /// Whether a step's infos said that it has succeeded; false where nobody looked.
    pub succeeded: bool,
}

impl Trajectory {
    /// T.
    pub fn len(&self) -> usize {
        self.rewards.len()
    }

    /// Undiscounted sum of the rewards.
    pub fn total_return(&self) -> f64 {
        self.rewards.iter().map(|reward| f64::from(*reward)).sum()
    }

    /// What was still earned from each step on: `[T]`.
    ///
    /// Of a truncated episode this is what it did earn, not what its last state was still worth.
    pub fn returns_to_go(&self) -> Vec<f32> {
        let mut earned = 0.0;
        let mut returns = vec![0.0; self.len()];
        for (step, reward) in self.rewards.iter().enumerate().rev() {
            earned += f64::from(*reward);
            returns[step] = earned as f32;
        }
        returns
    }
}

/// The trajectories of one task.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Numbers in an observation.
    pub observation_width: usize,
    /// What an action is.
    pub action: ActionSpace,
    /// The environment and its options, where the dataset says.
    pub env: Option<(String, Kwargs)>,
    /// Who acted, where the dataset says.
    pub algorithm: String,
    /// At least one.
    pub trajectories: Vec<Trajectory>,
}

impl Dataset {
    /// Steps of all trajectories.
    pub fn steps(&self) -> usize {
        self.trajectories.iter().map(Trajectory::len).sum()
    }

    /// Says, where they do, how the dataset's spaces differ from the environment's.
    pub fn differs_from(&self, spec: &EnvSpec) -> Option<String> {
        if self.observation_width != spec.observation_width() {
            return Some(format!(
                "has observations of {} numbers, and `{}` has {}",
                self.observation_width,
                spec.id,
                spec.observation_width()
            ));
        }
        if self.action != spec.action {
            let (own, other) = (self.action.to_string(), spec.action.to_string());
            let bounds = if own == other { " with other bounds" } else { "" };
            return Some(format!("has actions {own}, and `{}` takes {other}{bounds}", spec.id));
        }
        None
    }

    /// The greatest of all returns-to-go.
    pub fn max_return_to_go(&self) -> Option<f32> {
        self.trajectories.iter().flat_map(Trajectory::returns_to_go).reduce(f32::max)
    }
}

/// Mean `[S]` and standard deviation `[S]` of every observation dimension, over datasets of one width.
///
/// A dimension that hardly varies gets a deviation of 1e-6 more than it has, as in the original
/// decision transformer.
pub fn observation_moments(datasets: &[Dataset]) -> (Vec<f32>, Vec<f32>) {
    let width = datasets[0].observation_width;
    let (mut sum, mut squares, mut count) = (vec![0.0; width], vec![0.0; width], 0.0);
    for trajectory in datasets.iter().flat_map(|dataset| &dataset.trajectories) {
        // The last observation was never acted on.
        for row in trajectory.observations.all().chunks(width).take(trajectory.len()) {
            for (dimension, x) in row.iter().enumerate() {
                sum[dimension] += f64::from(*x);
                squares[dimension] += f64::from(*x).powi(2);
            }
            count += 1.0;
        }
    }
    let mean: Vec<f64> = sum.iter().map(|sum| sum / count).collect();
    let deviation = squares
        .iter()
        .zip(&mean)
        .map(|(squares, mean)| ((squares / count - mean * mean).max(0.0).sqrt() + 1e-6) as f32);
    (mean.iter().map(|mean| *mean as f32).collect(), deviation.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trajectory(rewards: &[f32]) -> Trajectory {
        Trajectory {
            observations: (0..=rewards.len()).map(|step| step as f32).collect(),
            actions: vec![0.0; rewards.len()].into(),
            rewards: rewards.to_vec(),
            end: Phase::Terminated,
            succeeded: false,
        }
    }

    #[test]
    fn returns_to_go_count_the_step_s_own_reward() {
        assert_eq!(trajectory(&[1.0, 2.0, -4.0]).returns_to_go(), [-1.0, -2.0, -4.0]);
        assert_eq!(trajectory(&[1.0, 2.0, -4.0]).total_return(), -1.0);
    }

    #[test]
    fn moments_leave_the_last_observation_out() {
        let dataset = Dataset {
            observation_width: 1,
            action: ActionSpace::Discrete { n: 2 },
            env: None,
            algorithm: String::new(),
            trajectories: vec![trajectory(&[0.0, 0.0, 0.0])],
        };
        let (mean, deviation) = observation_moments(&[dataset]);
        assert_eq!(mean, [1.0]);
        assert!((deviation[0] - (2.0f32 / 3.0).sqrt()).abs() < 1e-5);
    }
}
