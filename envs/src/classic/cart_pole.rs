//! CartPole-v1: a pole on a cart, which a fixed force pushes left or right.
//!
//! Barto, Sutton and Anderson (1983). With `m` the pole's mass, `M` that of both and `l` half the
//! pole's length: `t = (F + m·l·θ̇²·sin θ) / M`,
//! `θ̈ = (g·sin θ − t·cos θ) / (l·(4/3 − m·cos² θ / M))`, `ẍ = t − m·l·θ̈·cos θ / M`, in Euler steps.

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
use crate::render::trig::sin_cos;

const GRAVITY: f64 = 9.8;
const POLE_MASS: f64 = 0.1;
const TOTAL_MASS: f64 = POLE_MASS + 1.0;
const HALF_LENGTH: f64 = 0.5;
/// Quotients by the total mass are taken once, because a division takes as long as four products.
const POLE_SHARE: f64 = POLE_MASS / TOTAL_MASS;
const MOMENT_SHARE: f64 = POLE_MASS * HALF_LENGTH / TOTAL_MASS;
const FORCE: f64 = 10.0;
const STEP_SECS: f64 = 0.02;
const ANGLE_LIMIT: f64 = 12.0 * 2.0 * PI / 360.0;
const POSITION_LIMIT: f64 = 2.4;
/// Every number of a start lies between this and its negative.
const START: f64 = 0.05;

/// A pole on a cart; actions are left and right.
#[derive(Clone, Debug)]
pub struct CartPole {
    spec: Arc<EnvSpec>,
    sutton_barto_reward: bool,
    position: f64,
    velocity: f64,
    angle: f64,
    spin: f64,
}

impl CartPole {
    /// Gymnasium's id.
    pub const ID: &'static str = "CartPole-v1";

    /// Each step earns 1; with `sutton_barto_reward` it earns 0, and the one that fails -1.
    pub fn new(sutton_barto_reward: bool) -> Self {
        let high = [2.0 * POSITION_LIMIT, f64::INFINITY, 2.0 * ANGLE_LIMIT, f64::INFINITY].map(|x| x as f32);
        let (threshold, random, expert) =
            if sutton_barto_reward { (0.0, -1.0, 0.0) } else { (475.0, 22.3, 500.0) };
        let spec = EnvSpec {
            id: Self::ID.to_owned(),
            observation_low: high.map(|x| -x).to_vec(),
            observation_high: high.to_vec(),
            space: None,
            image: None,
            action: ActionSpace::Discrete { n: 2, start: 0 },
            max_episode_steps: 500,
            reward_threshold: Some(threshold),
            reference: Some(ReferenceScores::agent(random, expert)),
            infos: Vec::new(),
            success: Success::Truncated,
        };
        Self {
            spec: Arc::new(spec),
            sutton_barto_reward,
            position: 0.0,
            velocity: 0.0,
            angle: 0.0,
            spin: 0.0,
        }
    }

    fn observe(&self, observation: &mut [f32]) {
        write(observation, [self.position, self.velocity, self.angle, self.spin]);
    }
}

impl Task for CartPole {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut dyn RngCore, observation: &mut [f32]) {
        let drawn: [f64; 4] = std::array::from_fn(|_| rng.gen_range(-START..START));
        self.set_state(&drawn, observation);
    }

    fn step(&mut self, action: &[f32], observation: &mut [f32]) -> Step {
        // Not a branch: which way a policy pushes is what a processor cannot foresee.
        let force = FORCE * f64::from(2 * index(action, 2) - 1);
        let (sin, cos) = sin_cos(self.angle);
        let push = force / TOTAL_MASS + MOMENT_SHARE * (self.spin * self.spin) * sin;
        let spin_rate = (GRAVITY * sin - cos * push) / (HALF_LENGTH * (4.0 / 3.0 - POLE_SHARE * (cos * cos)));
        let acceleration = push - MOMENT_SHARE * spin_rate * cos;

        self.position += STEP_SECS * self.velocity;
        self.velocity += STEP_SECS * acceleration;
        self.angle += STEP_SECS * self.spin;
        self.spin += STEP_SECS * spin_rate;
        self.observe(observation);

        let fell = self.position.abs() > POSITION_LIMIT || self.angle.abs() > ANGLE_LIMIT;
        let reward = match (self.sutton_barto_reward, fell) {
            (false, _) => 1.0,
            (true, false) => 0.0,
            (true, true) => -1.0,
        };
        Step::new(reward, fell)
    }

    fn render(&self) -> Option<Frame> {
        Some(draw::cart_pole(self.position, self.angle, POSITION_LIMIT))
    }
}

impl NativeTask for CartPole {
    fn set_state(&mut self, numbers: &[f64], observation: &mut [f32]) {
        [self.position, self.velocity, self.angle, self.spin] = state(numbers);
        self.observe(observation);
    }

    fn start_ranges(&self, bound: &dyn Fn(&str, f64) -> f64) -> Option<Vec<(f64, f64)>> {
        Some(vec![(bound("low", -START), bound("high", START)); 4])
    }
}

/// Balances the pole by linear feedback: push to where it will fall.
#[derive(Clone, Copy, Debug)]
pub struct CartPoleController;

impl Controller for CartPoleController {
    fn act(&mut self, observation: &[f32], action: &mut [f32]) {
        let &[position, velocity, angle, spin] = observation else {
            panic!("CartPole shows 4 numbers, not {}", observation.len())
        };
        let lean = 0.1 * position + 0.2 * velocity + angle + 0.3 * spin;
        action[0] = if lean > 0.0 { 1.0 } else { 0.0 };
    }
}

impl Registered for CartPole {
    const ID: &'static str = Self::ID;
    const GRAIN: usize = 1024;

    fn from_kwargs(kwargs: &mut KwargReader) -> Result<Self, EnvError> {
        Ok(Self::new(kwargs.boolean("sutton_barto_reward", false)?))
    }

    fn controller(&self) -> Option<Box<dyn Controller>> {
        Some(Box::new(CartPoleController))
    }
}
