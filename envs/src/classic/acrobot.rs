//! Acrobot-v1: two hanging links with a motor between them; swing the tip above a line.
//!
//! Sutton (1996), the book's equations, in Runge-Kutta steps of 0.2 s; each step before the goal
//! costs 1. Angles are from hanging, the second relative to the first.

use std::f64::consts::PI;
use std::sync::Arc;

use rand::{Rng, RngCore};

use super::rows::{index, state, write};
use crate::core::controller::Controller;
use crate::core::error::EnvError;
use crate::core::kwargs::KwargReader;
use crate::core::registered::Registered;
use crate::core::spec::{ActionSpace, EnvSpec, ReferenceScores, Success};
use crate::core::task::{NativeTask, Step, Task};
use crate::render::Frame;
use crate::render::classic as draw;
use crate::render::trig::{cos, sin_cos};

const STEP_SECS: f64 = 0.2;
const GRAVITY: f64 = 9.8;
/// Of each link, as are the two that follow; lengths are 1.
const MASS: f64 = 1.0;
const CENTRE: f64 = 0.5;
const INERTIA: f64 = 1.0;
const MAX_SPIN: [f64; 2] = [4.0 * PI, 9.0 * PI];
/// Every number of a start lies between this and its negative.
const START: f64 = 0.1;

/// Two links; actions are torques of -1, 0 and 1.
#[derive(Clone, Debug)]
pub struct Acrobot {
    spec: Arc<EnvSpec>,
    /// Both angles, then both rates.
    state: [f64; 4],
}

impl Acrobot {
    /// Gymnasium's id.
    pub const ID: &'static str = "Acrobot-v1";

    /// Two links at rest.
    #[expect(clippy::new_without_default, reason = "made like the other tasks")]
    pub fn new() -> Self {
        let high = [1.0, 1.0, 1.0, 1.0, MAX_SPIN[0] as f32, MAX_SPIN[1] as f32];
        let spec = EnvSpec {
            id: Self::ID.to_owned(),
            observation_low: high.map(|x| -x).to_vec(),
            observation_high: high.to_vec(),
            space: None,
            image: None,
            action: ActionSpace::Discrete { n: 3, start: 0 },
            max_episode_steps: 500,
            reward_threshold: Some(-100.0),
            reference: Some(ReferenceScores::agent(-498.9, -78.7)),
            infos: Vec::new(),
            success: Success::Terminated,
        };
        Self { spec: Arc::new(spec), state: [0.0; 4] }
    }

    fn observe(&self, observation: &mut [f32]) {
        let [first, second, first_spin, second_spin] = self.state;
        let (first_sin, first_cos) = sin_cos(first);
        let (second_sin, second_cos) = sin_cos(second);
        let shown = [first_cos, first_sin, second_cos, second_sin, first_spin, second_spin];
        write(observation, shown);
    }
}

impl Task for Acrobot {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut dyn RngCore, observation: &mut [f32]) {
        // Gymnasium rounds the start, and only the start, to `f32`.
        let drawn: [f64; 4] = std::array::from_fn(|_| f64::from(rng.gen_range(-START..START) as f32));
        self.set_state(&drawn, observation);
    }

    fn step(&mut self, action: &[f32], observation: &mut [f32]) -> Step {
        let torque = f64::from(index(action, 3)) - 1.0;
        let [first, second, first_spin, second_spin] = runge_kutta(self.state, torque);
        self.state = [
            wrap(first),
            wrap(second),
            first_spin.clamp(-MAX_SPIN[0], MAX_SPIN[0]),
            second_spin.clamp(-MAX_SPIN[1], MAX_SPIN[1]),
        ];
        self.observe(observation);

        let arrived = -cos(self.state[0]) - cos(self.state[1] + self.state[0]) > 1.0;
        Step::new(if arrived { 0.0 } else { -1.0 }, arrived)
    }

    fn render(&self) -> Option<Frame> {
        Some(draw::acrobot(self.state[0], self.state[1]))
    }
}

impl NativeTask for Acrobot {
    fn set_state(&mut self, numbers: &[f64], observation: &mut [f32]) {
        self.state = state(numbers);
        self.observe(observation);
    }

    fn start_ranges(&self, bound: &dyn Fn(&str, f64) -> f64) -> Option<Vec<(f64, f64)>> {
        Some(vec![(bound("low", -START), bound("high", START)); 4])
    }
}

fn runge_kutta(start: [f64; 4], torque: f64) -> [f64; 4] {
    let along = |rates: [f64; 4], secs: f64| std::array::from_fn(|i| start[i] + secs * rates[i]);
    let first = rates(start, torque);
    let second = rates(along(first, STEP_SECS / 2.0), torque);
    let third = rates(along(second, STEP_SECS / 2.0), torque);
    let fourth = rates(along(third, STEP_SECS), torque);
    std::array::from_fn(|i| {
        start[i] + STEP_SECS / 6.0 * (first[i] + 2.0 * second[i] + 2.0 * third[i] + fourth[i])
    })
}

/// Time derivative of the state; `d` and `φ` of the book are `inertia` and `load`.
fn rates([first, second, first_spin, second_spin]: [f64; 4], torque: f64) -> [f64; 4] {
    let (bend_sin, bend_cos) = sin_cos(second);
    let first_inertia =
        MASS * CENTRE.powi(2) + MASS * (1.0 + CENTRE.powi(2) + 2.0 * CENTRE * bend_cos) + INERTIA + INERTIA;
    let second_inertia = MASS * (CENTRE.powi(2) + CENTRE * bend_cos) + INERTIA;
    let second_load = MASS * CENTRE * GRAVITY * cos(first + second - PI / 2.0);
    let first_load = -MASS * CENTRE * second_spin.powi(2) * bend_sin
        - 2.0 * MASS * CENTRE * second_spin * first_spin * bend_sin
        + (MASS * CENTRE + MASS) * GRAVITY * cos(first - PI / 2.0)
        + second_load;
    let second_rate = (torque + second_inertia / first_inertia * first_load
        - MASS * CENTRE * first_spin.powi(2) * bend_sin
        - second_load)
        / (MASS * CENTRE.powi(2) + INERTIA - second_inertia.powi(2) / first_inertia);
    let first_rate = -(second_inertia * second_rate + first_load) / first_inertia;
    [first_spin, second_spin, first_rate, second_rate]
}

/// Brings an angle into [-π, π].
fn wrap(mut angle: f64) -> f64 {
    while angle > PI {
        angle -= 2.0 * PI;
    }
    while angle < -PI {
        angle += 2.0 * PI;
    }
    angle
}

/// Swings Acrobot up by pumping energy: the motor works with the joint and against the first link. The weights were
/// found by random search.
#[derive(Clone, Copy, Debug)]
pub struct AcrobotController;

impl Controller for AcrobotController {
    fn act(&mut self, observation: &[f32], action: &mut [f32]) {
        let &[_, first_sin, _, second_sin, first_spin, second_spin] = observation else {
            panic!("Acrobot shows 6 numbers, not {}", observation.len())
        };
        let swing = 0.29 * second_spin - first_spin - 1.22 * first_sin - second_sin;
        action[0] = if swing > 0.0 { 2.0 } else { 0.0 };
    }
}

impl Registered for Acrobot {
    const ID: &'static str = Self::ID;
    const GRAIN: usize = 64;

    fn from_kwargs(_kwargs: &mut KwargReader) -> Result<Self, EnvError> {
        Ok(Self::new())
    }

    fn controller(&self) -> Option<Box<dyn Controller>> {
        Some(Box::new(AcrobotController))
    }
}
