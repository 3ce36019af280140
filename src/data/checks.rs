//! What the numbers of a dataset must be.

use eva_rl_envs::ActionSpace;

/// Refuses a number that is not finite, in rows from step `first` on.
pub(super) fn check_finite(name: &str, numbers: &[f32], width: usize, first: usize) -> Result<(), String> {
    match numbers.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => Err(format!(
            "has {} in `{name}` at step {}, dimension {}, expected a finite number",
            numbers[at],
            first + at / width,
            at % width
        )),
    }
}

/// Refuses an action that its space does not have, in rows from step `first` on.
pub(super) fn check_actions(space: &ActionSpace, actions: &[f32], first: usize) -> Result<(), String> {
    for (row, step) in actions.chunks(space.width()).zip(first..) {
        eva_rl_envs::check_actions(space, row).map_err(|error| match error {
            eva_rl_envs::EnvError::DiscreteAction { value, actions, .. } => {
                format!("has action {value} at step {step}, expected a whole number in 0..{actions}")
            }
            eva_rl_envs::EnvError::MultiDiscreteAction { dimension, value, actions, .. } => format!(
                "has action {value} at step {step}, dimension {dimension}, expected a whole number in 0..{actions}"
            ),
            eva_rl_envs::EnvError::BoxAction { dimension, value, low, high, .. } => format!(
                "has action {value} at step {step}, dimension {dimension}, expected {low}..={high}"
            ),
            other => other.to_string(),
        })?;
    }
    Ok(())
}
