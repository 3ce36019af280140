//! Actions, states and observations as rows of numbers.

/// Reads a discrete action out of its row.
pub(super) fn index(action: &[f32], actions: i32) -> i32 {
    let &[value] = action else { panic!("a discrete action is a row of one, not of {}", action.len()) };
    let index = value as i32;
    let is_action = (0..actions).contains(&index) && index as f32 == value;
    assert!(is_action, "{value} is none of the {actions} actions");
    index
}

/// Reads a state of N numbers.
pub(super) fn state<const N: usize>(state: &[f64]) -> [f64; N] {
    state.try_into().unwrap_or_else(|_| panic!("a state has {N} numbers, not {}", state.len()))
}

/// Writes an observation of N numbers.
pub(super) fn write<const N: usize>(observation: &mut [f32], values: [f64; N]) {
    let found = observation.len();
    let row: &mut [f32; N] =
        observation.try_into().unwrap_or_else(|_| panic!("an observation has {N} numbers, not {found}"));
    *row = values.map(|value| value as f32);
}

/// Position and velocity of a car in its valley.
pub(super) fn car(observation: &[f32]) -> (f32, f32) {
    let &[position, velocity] = observation else {
        panic!("a car in a valley shows 2 numbers, not {}", observation.len())
    };
    (position, velocity)
}
