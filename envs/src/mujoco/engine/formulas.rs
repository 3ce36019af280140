//! Formulas that several tasks have.

use rand::{Rng, RngCore};
use rand_distr::StandardNormal;

use super::sums::sum_of_squares;

/// Adds to each value a number between `-scale` and `scale`.
pub(in crate::mujoco) fn add_uniform(values: &mut [f64], scale: f64, rng: &mut dyn RngCore) {
    for value in values {
        *value += scale * (2.0 * rng.r#gen::<f64>() - 1.0);
    }
}

/// Adds to each value a normally distributed number of standard deviation `scale`.
pub(in crate::mujoco) fn add_normal(values: &mut [f64], scale: f64, rng: &mut dyn RngCore) {
    for value in values {
        *value += scale * rng.sample::<f64, _>(StandardNormal);
    }
}

/// Whether a value lies strictly between two bounds.
pub(in crate::mujoco) fn within(value: f64, (low, high): (f64, f64)) -> bool {
    low < value && value < high
}

/// The price of an action, which Gymnasium computes in `f32`, as actions are.
pub(in crate::mujoco) fn control_cost(weight: f64, action: &[f32]) -> f64 {
    f64::from(weight as f32 * sum_of_squares(action.iter().copied()))
}

pub(in crate::mujoco) fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    let [x, y, z] = [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
    (x * x + y * y + z * z).sqrt()
}
