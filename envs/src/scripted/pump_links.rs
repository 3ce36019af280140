//! Swings Acrobot up by pumping energy: the motor works with the joint and against the first link.

use super::Controller;

/// For `Acrobot-v1`. The weights were found by random search.
#[derive(Clone, Copy, Debug)]
pub struct PumpLinks;

impl Controller for PumpLinks {
    fn act(&mut self, observation: &[f32], action: &mut [f32]) {
        let &[_, first_sin, _, second_sin, first_spin, second_spin] = observation else {
            panic!("Acrobot shows 6 numbers, not {}", observation.len())
        };
        let swing = 0.29 * second_spin - first_spin - 1.22 * first_sin - second_sin;
        action[0] = if swing > 0.0 { 2.0 } else { 0.0 };
    }
}
