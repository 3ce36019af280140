//! How well a policy reproduces a dataset's actions from its observations, which tells of conventions that differ.

use eva_rl_agents::model::{ActionKind, Conditioning, ForwardContext, Predictions, TransformerPolicy};
use eva_rl_envs::ActionSpace;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::data::Replay;

/// Steps that are looked at, about.
const STEPS: usize = 2048;

/// Windows of a forward pass.
const BATCH: usize = 16;

/// Standard deviations beyond which a normalised observation is out of range.
const FAR: f64 = 5.0;

/// Share of a dimension's observations that may be so far before it is warned of.
const MOST_FAR: f64 = 0.05;

/// A correlation below this is that of a dimension whose sign is turned.
const TURNED: f64 = -0.3;

/// What a policy does on the data, against what the data did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reproduction {
    /// Steps that were looked at.
    pub steps: usize,
    /// A row a dimension of a continuous action; empty where actions are discrete.
    pub actions: Vec<ActionFit>,
    /// Where actions are discrete, how often they are the data's.
    pub choice: Option<ChoiceFit>,
    /// A row a dimension of the normalised observations; empty where the policy normalises none.
    pub observations: Vec<ObservationFit>,
}

/// One dimension of continuous actions, in the environment's units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionFit {
    /// Share of the policy's actions outside of the bounds.
    pub out_of_range: f64,
    /// Pearson's correlation of the policy's actions with the data's; none where either never varies.
    pub correlation: Option<f64>,
    /// Root of the mean squared error.
    pub error: f64,
    /// The same of always acting the data's mean: the data's standard deviation.
    pub error_of_mean: f64,
}

/// Discrete actions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChoiceFit {
    /// Share of steps whose action the policy finds most likely.
    pub accuracy: f64,
    /// The data's most frequent action.
    pub most_frequent: usize,
    /// Its share: the accuracy of always choosing it.
    pub accuracy_of_most_frequent: f64,
}

/// One dimension of observations as the policy normalises them: mean 0 and deviation 1 if they are what it knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObservationFit {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub std: f64,
    /// Share of them more than five standard deviations from what the policy knows as the mean.
    pub out_of_range: f64,
}

impl Reproduction {
    /// Runs the policy over windows of the data, each of which it knows up to the action that it is to choose.
    pub fn of(
        policy: &TransformerPolicy,
        conditioning: &Conditioning,
        data: &Replay,
        action: &ActionSpace,
    ) -> Self {
        let length = conditioning.context_length;
        // Windows that begin evenly spaced over all steps say more than as many random ones.
        let count = (STEPS / length).clamp(1, data.steps());
        let starts: Vec<usize> = (0..count).map(|window| window * data.steps() / count).collect();
        let (mut chosen, mut recorded, mut states) = (Vec::new(), Vec::new(), Vec::new());
        for starts in starts.chunks(BATCH) {
            let inputs = conditioning.inputs(&data.windows(starts, length).view());
            let found = tch::no_grad(|| policy.forward(&mut ForwardContext::bare(), &inputs));
            let real = inputs.mask.view([-1]).nonzero().squeeze_dim(1); // [N] of B·T
            let rows = |tensor: &Tensor| {
                let size = tensor.size(); // [B, T, width], of which the width of no numbers is 0
                tensor.to_kind(Kind::Float).reshape([size[0] * size[1], size[2]]).index_select(0, &real) // [N, width]
            };
            chosen.push(rows(&actions_of(conditioning, &found)));
            recorded.push(rows(&match conditioning.action_kind {
                ActionKind::Discrete => inputs.actions.argmax(-1, true),
                _ => conditioning.to_environment(&inputs.actions),
            }));
            states.push(rows(&inputs.states));
        }
        let [chosen, recorded, states] =
            [chosen, recorded, states].map(|parts| Columns::of(&Tensor::cat(&parts, 0)));
        let steps = recorded.rows;
        let normalises = policy.config().state_mean.is_some();
        Self {
            steps,
            actions: match action {
                ActionSpace::Box { low, high } => (0..recorded.width)
                    .map(|column| {
                        ActionFit::of(chosen.get(column), recorded.get(column), [low[column], high[column]])
                    })
                    .collect(),
                _ => Vec::new(),
            },
            choice: match action {
                ActionSpace::Box { .. } => None,
                _ => Some(ChoiceFit::of(chosen.get(0), recorded.get(0))),
            },
            observations: match normalises {
                true => (0..states.width).map(|column| ObservationFit::of(states.get(column))).collect(),
                false => Vec::new(),
            },
        }
    }

    /// What of it a user should look into, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (dimension, fit) in self.actions.iter().enumerate() {
            let ActionFit { error, error_of_mean, .. } = fit;
            if *error_of_mean == 0.0 {
                continue; // the data's action never varies, and tells nothing
            }
            match fit.correlation {
                Some(correlation) if correlation < TURNED => found.push(format!(
                    "action dimension {dimension} of the policy is the data's with the sign turned (correlation {correlation:.2})"
                )),
                _ if error >= error_of_mean => found.push(format!(
                    "action dimension {dimension} of the policy is no closer to the data's than their mean is (error {error:.3}, and {error_of_mean:.3} of always acting the mean)"
                )),
                _ => {}
            }
        }
        if let Some(fit) = &self.choice
            && fit.accuracy <= fit.accuracy_of_most_frequent
            && fit.accuracy < 1.0
        {
            found.push(format!(
                "the policy chooses the data's action in {:.0}% of steps, no more than always choosing action {} does ({:.0}%)",
                100.0 * fit.accuracy,
                fit.most_frequent,
                100.0 * fit.accuracy_of_most_frequent
            ));
        }
        for (dimension, fit) in self.observations.iter().enumerate() {
            if fit.out_of_range > MOST_FAR {
                found.push(format!(
                    "observation dimension {dimension} lies more than {FAR} of the policy's standard deviations from its mean in {:.0}% of steps",
                    100.0 * fit.out_of_range
                ));
            }
        }
        found
    }
}

/// What the policy would do: `[B, T, A]` in the environment's units, or `[B, T, 1]` indices.
fn actions_of(conditioning: &Conditioning, found: &Predictions) -> Tensor {
    match conditioning.action_kind {
        ActionKind::Discrete => found.actions.argmax(-1, true),
        _ => conditioning.to_environment(&found.actions),
    }
}

/// Rows of numbers, read by column.
struct Columns {
    numbers: Vec<f64>,
    rows: usize,
    width: usize,
}

impl Columns {
    /// Of a tensor `[N, width]`.
    fn of(tensor: &Tensor) -> Self {
        let size = tensor.size();
        let numbers = Vec::<f64>::try_from(tensor.to_kind(Kind::Double).t_copy().contiguous().view([-1]));
        let numbers = numbers.expect("a tensor of doubles is a list of them");
        Self { numbers, rows: size[0] as usize, width: size[1] as usize }
    }

    fn get(&self, column: usize) -> &[f64] {
        &self.numbers[column * self.rows..(column + 1) * self.rows]
    }
}

fn mean(numbers: impl Iterator<Item = f64> + Clone) -> f64 {
    numbers.clone().sum::<f64>() / numbers.count().max(1) as f64
}

fn deviation(numbers: &[f64]) -> f64 {
    let middle = mean(numbers.iter().copied());
    mean(numbers.iter().map(|x| (x - middle).powi(2))).sqrt()
}

/// A deviation below this, beside numbers of about 1, is rounding.
const CONSTANT: f64 = 1e-6;

impl ActionFit {
    fn of(chosen: &[f64], recorded: &[f64], [low, high]: [f32; 2]) -> Self {
        let pairs = || chosen.iter().copied().zip(recorded.iter().copied());
        let error = mean(pairs().map(|(a, b)| (a - b).powi(2))).sqrt();
        let (means, stds) =
            ([chosen, recorded].map(|x| mean(x.iter().copied())), [chosen, recorded].map(deviation));
        let covariance = mean(pairs().map(|(a, b)| (a - means[0]) * (b - means[1])));
        let varies = stds.iter().all(|std| *std > CONSTANT);
        let slack = 1e-6 * f64::from(high - low);
        let (low, high) = (f64::from(low) - slack, f64::from(high) + slack);
        Self {
            out_of_range: mean(chosen.iter().map(|x| f64::from(u8::from(*x < low || *x > high)))),
            correlation: varies.then(|| covariance / (stds[0] * stds[1])),
            error,
            error_of_mean: if stds[1] > CONSTANT { stds[1] } else { 0.0 },
        }
    }
}

impl ChoiceFit {
    fn of(chosen: &[f64], recorded: &[f64]) -> Self {
        let same = chosen.iter().zip(recorded).map(|(a, b)| f64::from(u8::from(a == b)));
        let mut counts = std::collections::BTreeMap::new();
        for action in recorded {
            *counts.entry(*action as usize).or_insert(0usize) += 1;
        }
        let (action, count) = counts.into_iter().max_by_key(|(_, count)| *count).unwrap_or_default();
        Self {
            accuracy: mean(same),
            most_frequent: action,
            accuracy_of_most_frequent: count as f64 / recorded.len().max(1) as f64,
        }
    }
}

impl ObservationFit {
    fn of(normalised: &[f64]) -> Self {
        Self {
            mean: mean(normalised.iter().copied()),
            std: deviation(normalised),
            out_of_range: mean(normalised.iter().map(|x| f64::from(u8::from(x.abs() > FAR)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(chosen: &[f64], recorded: &[f64]) -> ActionFit {
        ActionFit::of(chosen, recorded, [-1.0, 1.0])
    }

    fn warnings(fit: ActionFit) -> Vec<String> {
        Reproduction { steps: 4, actions: vec![fit], choice: None, observations: Vec::new() }.warnings()
    }

    #[test]
    fn a_dimension_with_its_sign_turned_is_named() {
        let found = fit(&[-0.5, 0.5, 1.5, -0.5], &[0.5, -0.5, -1.0, 0.5]);
        assert_eq!(found.out_of_range, 0.25);
        // Deviations from the means 0.25 and −0.125.
        assert!((found.correlation.unwrap() + 0.986_440).abs() < 1e-5, "{found:?}");
        assert!(warnings(found)[0].contains("dimension 0 of the policy is the data's with the sign turned"));
    }

    #[test]
    fn what_is_no_better_than_the_mean_is_named_and_what_is_better_is_not() {
        let recorded = [1.0, -1.0, 1.0, -1.0];
        let found = fit(&[0.0, 0.2, 0.2, 0.0], &recorded);
        assert_eq!(found.error_of_mean, 1.0);
        assert!((found.error - 1.02f64.sqrt()).abs() < 1e-9, "{found:?}");
        assert!(
            warnings(found)[0].contains("no closer to the data's than their mean is (error 1.010, and 1.000")
        );
        assert_eq!(warnings(fit(&[0.5, -0.5, 0.5, -0.5], &recorded)), [""; 0]);
        assert_eq!(warnings(fit(&[0.5, -0.5, 0.5, -0.5], &[0.3; 4])), [""; 0]);
    }

    #[test]
    fn choices_are_held_against_the_most_frequent_action() {
        let choice = ChoiceFit::of(&[0.0, 1.0, 1.0, 2.0], &[2.0, 1.0, 2.0, 2.0]);
        assert_eq!((choice.accuracy, choice.most_frequent, choice.accuracy_of_most_frequent), (0.5, 2, 0.75));
        let found =
            Reproduction { steps: 4, actions: Vec::new(), choice: Some(choice), observations: Vec::new() };
        assert!(
            found.warnings()[0].contains("in 50% of steps, no more than always choosing action 2 does (75%)")
        );
    }

    #[test]
    fn observations_far_from_what_the_policy_knows_are_named() {
        let far = ObservationFit::of(&[6.0, 0.0, -7.0, 1.0]);
        assert_eq!((far.mean, far.out_of_range), (0.0, 0.5));
        let found = Reproduction { steps: 4, actions: Vec::new(), choice: None, observations: vec![far] };
        assert!(found.warnings()[0].starts_with("observation dimension 0 lies more than 5 of the policy's"));
    }
}
