//! Pendulum-v1: swing a rod up and hold it there, with a motor too weak to lift it at once.
//!
//! With θ from upright: `θ̈ = 3/2·g·sin θ + 3·u`, in semi-implicit Euler steps, and the reward
//! `−(θ² + 0.1·θ̇² + 0.001·u²)`.

use std::f64::consts::PI;
use std::sync::Arc;

use rand::{Rng, RngCore};

use super::rows::{state, write};
use crate::core::controller::Controller;
use crate::core::error::EnvError;
use crate::core::kwargs::KwargReader;
use crate::core::registered::Registered;
use crate::core::spec::{ActionSpace, EnvSpec, ReferenceScores, Success};
use crate::core::task::{NativeTask, Step, Task};
use crate::render::Frame;
use crate::render::classic as draw;
use crate::render::trig::sin_cos;

/// Greatest torque, either way.
pub(crate) const MAX_TORQUE: f32 = 2.0;
const MAX_SPIN: f64 = 8.0;
const STEP_SECS: f64 = 0.05;
/// The angle and the rate of a start lie between these and their negatives.
const START: [f64; 2] = [PI, 1.0];

/// A rod on a motor; the action is its torque.
#[derive(Clone, Debug)]
pub struct Pendulum {
    spec: Arc<EnvSpec>,
    gravity: f64,
    angle: f64,
    /// Of the angle; what was shown is needed again for the next step.
    sin: f64,
    spin: f64,
}

impl Pendulum {
    /// Gymnasium's id.
    pub const ID: &'static str = "Pendulum-v1";

    /// A pendulum under `gravity`, which is 10 unless a user says otherwise.
    pub fn new(gravity: f64) -> Self {
        let high = [1.0, 1.0, MAX_SPIN as f32];
        let spec = EnvSpec {
            id: Self::ID.to_owned(),
            observation_low: high.map(|x| -x).to_vec(),
            observation_high: high.to_vec(),
            space: None,
            image: None,
            action: ActionSpace::Box { low: vec![-MAX_TORQUE], high: vec![MAX_TORQUE] },
            max_episode_steps: 200,
            reward_threshold: None,
            reference: reference(gravity),
            infos: Vec::new(),
            success: Success::Undefined,
        };
        Self { spec: Arc::new(spec), gravity, angle: 0.0, sin: 0.0, spin: 0.0 }
    }

    /// Acceleration of free fall, in m/s².
    pub fn gravity(&self) -> f64 {
        self.gravity
    }

    fn observe(&mut self, observation: &mut [f32]) {
        let (sin, cos) = sin_cos(self.angle);
        self.sin = sin;
        write(observation, [cos, sin, self.spin]);
    }
}

impl Task for Pendulum {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut dyn RngCore, observation: &mut [f32]) {
        let drawn = START.map(|bound| rng.gen_range(-bound..bound));
        self.set_state(&drawn, observation);
    }

    fn step(&mut self, action: &[f32], observation: &mut [f32]) -> Step {
        let &[torque] = action else { panic!("an action is one torque, not {}", action.len()) };
        let torque = torque.clamp(-MAX_TORQUE, MAX_TORQUE);
        // Gymnasium keeps the torque in `f32` until it meets the state.
        let lean = (self.angle + PI).rem_euclid(2.0 * PI) - PI;
        let effort = f64::from(0.001 * (torque * torque));
        let cost = lean * lean + 0.1 * (self.spin * self.spin) + effort;

        let spin_rate = 3.0 * self.gravity / 2.0 * self.sin + f64::from(3.0 * torque);
        self.spin = (self.spin + spin_rate * STEP_SECS).clamp(-MAX_SPIN, MAX_SPIN);
        self.angle += self.spin * STEP_SECS;
        self.observe(observation);
        Step::new(-cost as f32, false)
    }

    fn render(&self) -> Option<Frame> {
        Some(draw::pendulum(self.angle))
    }
}

impl NativeTask for Pendulum {
    fn set_state(&mut self, numbers: &[f64], observation: &mut [f32]) {
        [self.angle, self.spin] = state(numbers);
        self.observe(observation);
    }

    fn start_ranges(&self, bound: &dyn Fn(&str, f64) -> f64) -> Option<Vec<(f64, f64)>> {
        let [angle, spin] = [bound("x_init", START[0]), bound("y_init", START[1])];
        Some(vec![(-angle, angle), (-spin, spin)])
    }
}

/// Returns of random play and of the scripted controller under gravities of 1 to 16.
const REFERENCES: [(f64, f64); 16] = [
    (-896.6, -89.2),
    (-986.3, -78.4),
    (-1041.8, -76.5),
    (-1081.9, -81.5),
    (-1113.6, -109.0),
    (-1143.1, -116.9),
    (-1169.1, -121.0),
    (-1190.8, -126.7),
    (-1207.4, -139.1),
    (-1222.4, -148.1),
    (-1247.3, -154.5),
    (-1291.2, -160.0),
    (-1339.4, -169.8),
    (-1380.1, -178.4),
    (-1414.5, -185.9),
    (-1444.5, -191.1),
];

fn reference(gravity: f64) -> Option<ReferenceScores> {
    let measured = (1_u8..).zip(REFERENCES).find(|(g, _)| f64::from(*g) == gravity);
    measured.map(|(_, (random, expert))| ReferenceScores::agent(random, expert))
}

/// Swings Pendulum up by its energy, and holds it there by linear feedback.
///
/// Åström and Furuta (2000): with the energy `e = θ̇²/2 − 3/2·g·(1 − cos θ)`, which is zero at rest upright, a torque
/// along θ̇ raises it and one against θ̇ lowers it.
///
/// It is upright within 200 steps of nearly every start up to a gravity of 16. Beyond that no
/// controller can be: the limits on speed and torque leave a hanging rod short of the energy.
#[derive(Clone, Copy, Debug)]
pub struct PendulumController {
    gravity: f32,
}

impl PendulumController {
    /// For a pendulum under `gravity`.
    pub fn new(gravity: f64) -> Self {
        Self { gravity: gravity as f32 }
    }
}

impl Controller for PendulumController {
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

impl Registered for Pendulum {
    const ID: &'static str = Self::ID;
    const GRAIN: usize = 1024;

    fn from_kwargs(kwargs: &mut KwargReader) -> Result<Self, EnvError> {
        Ok(Self::new(kwargs.number("g", 10.0)?))
    }

    fn controller(&self) -> Option<Box<dyn Controller>> {
        Some(Box::new(PendulumController::new(self.gravity())))
    }
}
