//! One episode, and the episodes of one task.

use eva_rl_envs::{ActionSpace, EnvSpec, Kwargs, Phase, ReferenceScores, Space};

use super::images::Images;
use super::numbers::Numbers;

/// One episode.
#[derive(Clone, Debug, PartialEq)]
pub struct Trajectory {
    /// `[T + 1, S]`.
    pub observations: Numbers,
    /// `[T + 1]` images; empty ones where the environment shows none.
    pub images: Images,
    /// `[T, A]`; a discrete action is one number, its index.
    pub actions: Numbers,
    /// `[T]`.
    pub rewards: Vec<f32>,
    /// `[T, I]`, what steps told in the infos that the environment's contract names; empty where it was read from a file.
    pub infos: Vec<f32>,
    /// How it ended; `Running` where nobody said.
    pub end: Phase,
    /// Whether a step's infos said that it has succeeded; none where they said nothing.
    pub succeeded: Option<bool>,
}

/// What an episode came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Undiscounted sum of its rewards.
    pub total_return: f64,
    /// Its steps.
    pub steps: usize,
    /// How it ended.
    pub end: Phase,
    /// Whether it has succeeded, where its infos said.
    pub succeeded: Option<bool>,
}

impl Trajectory {
    /// What it came to.
    pub fn outcome(&self) -> Outcome {
        let (total_return, steps) = (self.total_return(), self.len());
        Outcome { total_return, steps, end: self.end, succeeded: self.succeeded }
    }

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
    /// Numbers in an observation, its image aside.
    pub observation_width: usize,
    /// The space of observations as the dataset has it; absent where that is a row of numbers.
    pub space: Option<Space>,
    /// Channels, height and width of an observation's image, where images were asked for and it has one.
    pub image: Option<[usize; 3]>,
    /// What an action is.
    pub action: ActionSpace,
    /// The environment and its options, where the dataset says.
    pub env: Option<(String, Kwargs)>,
    /// Who acted, where the dataset says.
    pub algorithm: String,
    /// The returns that scores refer to, where the dataset says.
    pub reference: Option<ReferenceScores>,
    /// Episodes that could not be read, and were left out.
    pub skipped: usize,
    /// Action numbers that were outside of their Box, and were clipped to it.
    pub clipped: usize,
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
        if self.image != spec.image {
            let shown = |image: Option<[usize; 3]>| {
                image.map_or("no images".to_owned(), |shape| format!("images {shape:?}"))
            };
            return Some(format!("has {}, and `{}` shows {}", shown(self.image), spec.id, shown(spec.image)));
        }
        if self.action != spec.action {
            let (own, other) = (self.action.to_string(), spec.action.to_string());
            let bounds = if own == other { " with other bounds" } else { "" };
            return Some(format!("has actions {own}, and `{}` takes {other}{bounds}", spec.id));
        }
        None
    }

    /// What was left out and changed while it was read, if anything was.
    pub fn faults(&self) -> Option<String> {
        let mut faults = Vec::new();
        if self.skipped > 0 {
            let all = self.skipped + self.trajectories.len();
            faults.push(format!("{} of {all} episodes cannot be read and are left out", self.skipped));
        }
        if self.clipped > 0 {
            let text =
                format!("{} action numbers were outside of their bounds and are clipped", self.clipped);
            faults.push(text);
        }
        (!faults.is_empty()).then(|| faults.join("; "))
    }

    /// The greatest of all returns-to-go.
    pub fn max_return_to_go(&self) -> Option<f32> {
        self.trajectories.iter().flat_map(Trajectory::returns_to_go).reduce(f32::max)
    }
}

/// The greatest return of an episode of the datasets, which have at least one.
pub fn greatest_return(datasets: &[Dataset]) -> f32 {
    let trajectories = datasets.iter().flat_map(|dataset| &dataset.trajectories);
    trajectories.map(|trajectory| trajectory.total_return() as f32).fold(f32::NEG_INFINITY, f32::max)
}

/// A standard deviation below this is rounding: the dimension does not vary.
const CONSTANT: f64 = 1e-6;

/// Mean `[S]` and standard deviation `[S]` of every observation dimension, over datasets of one width.
///
/// A dimension that does not vary gets a deviation of 1, as scikit-learn's StandardScaler gives it: what it never was
/// in these data, and may be elsewhere, must not look like millions of deviations.
pub fn observation_moments(datasets: &[Dataset]) -> (Vec<f32>, Vec<f32>) {
    let width = datasets[0].observation_width;
    let trajectories = || datasets.iter().flat_map(|dataset| &dataset.trajectories);
    let count = trajectories().map(Trajectory::len).sum::<usize>() as f64;
    // The mean over all steps of a number of each dimension; the last observation was never acted on.
    let mean_of = |number: &dyn Fn(usize, f64) -> f64| {
        let mut sums = vec![0.0; width];
        for trajectory in trajectories() {
            for row in trajectory.observations.all().chunks(width.max(1)).take(trajectory.len()) {
                for (dimension, x) in row.iter().enumerate() {
                    sums[dimension] += number(dimension, f64::from(*x));
                }
            }
        }
        sums.into_iter().map(|sum| sum / count).collect::<Vec<f64>>()
    };
    let mean = mean_of(&|_, x| x);
    let variance = mean_of(&|dimension, x| (x - mean[dimension]).powi(2));
    let deviation = variance.iter().map(|variance| variance.sqrt());
    let deviation = deviation.map(|std| if std < CONSTANT { 1.0 } else { std as f32 }).collect();
    (mean.iter().map(|mean| *mean as f32).collect(), deviation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing;

    fn trajectory(rewards: &[f32]) -> Trajectory {
        let observations = (0..=rewards.len()).map(|step| step as f32).collect();
        testing::trajectory(observations, vec![0.0; rewards.len()], rewards)
    }

    fn moments(width: usize, trajectory: Trajectory) -> (Vec<f32>, Vec<f32>) {
        observation_moments(&[testing::dataset(
            width,
            ActionSpace::Discrete { n: 2, start: 0 },
            vec![trajectory],
        )])
    }

    #[test]
    fn returns_to_go_count_the_step_s_own_reward() {
        assert_eq!(trajectory(&[1.0, 2.0, -4.0]).returns_to_go(), [-1.0, -2.0, -4.0]);
        assert_eq!(trajectory(&[1.0, 2.0, -4.0]).total_return(), -1.0);
    }

    #[test]
    fn moments_leave_the_last_observation_out() {
        let (mean, deviation) = moments(1, trajectory(&[0.0, 0.0, 0.0]));
        assert_eq!(mean, [1.0]);
        assert!((deviation[0] - (2.0f32 / 3.0).sqrt()).abs() < 1e-5);
    }

    #[test]
    fn a_dimension_that_does_not_vary_has_a_deviation_of_one() {
        // Of each observation: 1, 3, 5 (the last of 7 is not acted on), and always 1,000,000.1.
        let observations: Vec<f32> =
            [1.0, 3.0, 5.0, 7.0].into_iter().flat_map(|x| [x, 1_000_000.1]).collect();
        let (mean, std) =
            moments(2, Trajectory { observations: observations.into(), ..trajectory(&[0.0; 3]) });
        assert_eq!(mean, [3.0, 1_000_000.1]);
        assert!((std[0] - (8.0_f32 / 3.0).sqrt()).abs() < 1e-6, "{std:?}");
        assert_eq!(std[1], 1.0);
    }
}
