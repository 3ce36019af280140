//! The classic control tasks of Gymnasium 1.4, equal to it step by step from equal states.
//!
//! Their reference scores are mean returns over 10,000 episodes of random play and of the scripted
//! controller, which `examples/reference_scores.rs` measures.

mod acrobot;
mod cart_pole;
mod draw;
mod mountain_car;
mod mountain_car_continuous;
mod pendulum;

pub use acrobot::Acrobot;
pub use cart_pole::CartPole;
pub use mountain_car::MountainCar;
pub use mountain_car_continuous::MountainCarContinuous;
pub(crate) use pendulum::MAX_TORQUE;
pub use pendulum::Pendulum;

/// Reads a discrete action out of its row.
fn index(action: &[f32], actions: i32) -> i32 {
    let &[value] = action else { panic!("a discrete action is a row of one, not of {}", action.len()) };
    let index = value as i32;
    let is_action = (0..actions).contains(&index) && index as f32 == value;
    assert!(is_action, "{value} is none of the {actions} actions");
    index
}

/// Reads a state of N numbers.
fn state<const N: usize>(state: &[f64]) -> [f64; N] {
    state.try_into().unwrap_or_else(|_| panic!("a state has {N} numbers, not {}", state.len()))
}

/// Writes an observation of N numbers.
fn write<const N: usize>(observation: &mut [f32], values: [f64; N]) {
    let found = observation.len();
    let row: &mut [f32; N] =
        observation.try_into().unwrap_or_else(|_| panic!("an observation has {N} numbers, not {found}"));
    *row = values.map(|value| value as f32);
}
