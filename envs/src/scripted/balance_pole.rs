//! Balances CartPole by linear feedback: push to where the pole will fall.

use super::Controller;

/// For `CartPole-v1`.
#[derive(Clone, Copy, Debug)]
pub struct BalancePole;

impl Controller for BalancePole {
    fn act(&mut self, observation: &[f32], action: &mut [f32]) {
        let &[position, velocity, angle, spin] = observation else {
            panic!("CartPole shows 4 numbers, not {}", observation.len())
        };
        let lean = 0.1 * position + 0.2 * velocity + angle + 0.3 * spin;
        action[0] = if lean > 0.0 { 1.0 } else { 0.0 };
    }
}
