//! Spaces as actions.

use crate::core::space::Space;
use crate::core::spec::ActionSpace;

/// Beyond it not every whole number is an `f32`.
const MOST: f32 = (1 << 24) as f32;

/// The spaces whose actions can be chosen, for messages.
pub const ACTIONS: &str =
    "Discrete, MultiDiscrete, MultiBinary, or a Box with finite bounds (whole numbers within 2^24)";

impl Space {
    /// The same as actions, which are numbers in a row; none where no policy and no random play of ours chooses
    /// such: what [`ACTIONS`] does not name. Whole numbers between bounds are discrete, each from its bound on.
    pub fn actions(&self) -> Option<ActionSpace> {
        match self {
            Self::Discrete { n, start } if *n > 0 => Some(ActionSpace::Discrete { n: *n, start: *start }),
            Self::MultiDiscrete { counts, starts } if !counts.is_empty() && !counts.contains(&0) => {
                Some(ActionSpace::MultiDiscrete { counts: counts.clone(), starts: starts.clone() })
            }
            Self::MultiBinary { .. } => {
                let count = self.width().filter(|count| *count > 0)?;
                Some(ActionSpace::MultiDiscrete { counts: vec![2; count], starts: vec![0; count] })
            }
            Self::Box { dtype, .. } if dtype.starts_with("float") => {
                let (low, high) = self.bounds();
                let fits = |(low, high): (&f32, &f32)| low.is_finite() && high.is_finite() && low < high;
                let fit = !low.is_empty() && low.iter().zip(&high).all(fits);
                fit.then_some(ActionSpace::Box { low, high })
            }
            Self::Box { dtype, .. } if dtype.contains("int") => {
                let (low, high) = self.bounds();
                let fits = |(low, high): (&f32, &f32)| -MOST <= *low && low <= high && *high < MOST;
                if low.is_empty() || !low.iter().zip(&high).all(fits) {
                    return None;
                }
                let counts = low.iter().zip(&high).map(|(low, high)| (high - low) as usize + 1);
                let counts: Vec<usize> = counts.collect();
                let in_one = counts.iter().all(|count| *count <= MOST as usize);
                let starts = low.iter().map(|low| *low as i64).collect();
                in_one.then_some(ActionSpace::MultiDiscrete { counts, starts })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: Value) -> Space {
        Space::from_json(&value).unwrap()
    }

    #[test]
    fn actions_are_discrete_or_between_bounds() {
        let float =
            |low: Value| json!({ "type": "Box", "dtype": "float32", "shape": [2, 1], "low": low, "high": 1 });
        let square = read(float(json!([[-1], [-2]]))).actions();
        assert_eq!(square, Some(ActionSpace::Box { low: vec![-1.0, -2.0], high: vec![1.0, 1.0] }));
        assert_eq!(read(float(Value::Null)).actions(), None);
        let discrete = read(json!({ "type": "Discrete", "n": 3, "start": -1 })).actions();
        assert_eq!(discrete, Some(ActionSpace::Discrete { n: 3, start: -1 }));
        let binary = read(json!({ "type": "MultiBinary", "n": [2, 2] })).actions();
        assert_eq!(binary, Some(ActionSpace::MultiDiscrete { counts: vec![2; 4], starts: vec![0; 4] }));
        let several = read(json!({ "type": "MultiDiscrete", "nvec": [3, 2], "start": [-1, 4] })).actions();
        assert_eq!(several, Some(ActionSpace::MultiDiscrete { counts: vec![3, 2], starts: vec![-1, 4] }));
        let whole = |high: Value| {
            read(json!({ "type": "Box", "dtype": "int16", "shape": [2], "low": [-1, 3], "high": high }))
                .actions()
        };
        assert_eq!(
            whole(json!([1, 3])),
            Some(ActionSpace::MultiDiscrete { counts: vec![3, 1], starts: vec![-1, 3] })
        );
        assert_eq!(whole(json!([1, 1 << 24])), None);
        assert_eq!(whole(json!([1, 2])), None);
    }
}
