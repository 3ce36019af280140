//! CartPole-v1: a pole on a cart, pushed left or right.

use rand::RngCore;

use super::{Native, uniform};
use crate::error::EnvError;
use crate::options::{self, Kwargs};
use crate::spec::{ActionSpace, EnvSpec, Phase, ReferenceScores, Success};
use crate::task::{Controller, Step, Task};

const GRAVITY: f64 = 9.8;
const POLE_MASS: f64 = 0.1;
const TOTAL_MASS: f64 = 1.1;
const HALF_LENGTH: f64 = 0.5;
const POLE_MOMENT: f64 = POLE_MASS * HALF_LENGTH;
const FORCE: f64 = 10.0;
const STEP_SECS: f64 = 0.02;
const FURTHEST: f64 = 2.4;
const STEEPEST: f64 = 12.0 * 2.0 * std::f64::consts::PI / 360.0;

/// The task; a state is position, velocity, angle, angular velocity.
#[derive(Debug)]
pub struct CartPole {
    spec: EnvSpec,
    /// 0 a step and −1 at the end, instead of 1 a step.
    sutton_barto_reward: bool,
    state: [f64; 4],
}

impl Native for CartPole {
    const ID: &'static str = "CartPole-v1";
    const OPTIONS: &'static [&'static str] = &["sutton_barto_reward"];

    fn new(kwargs: &Kwargs) -> Result<Self, EnvError> {
        let high = vec![2.0 * FURTHEST as f32, f32::INFINITY, 2.0 * STEEPEST as f32, f32::INFINITY];
        Ok(Self {
            spec: EnvSpec {
                id: Self::ID.to_owned(),
                observation_low: high.iter().map(|x| -x).collect(),
                observation_high: high,
                action: ActionSpace::Discrete { n: 2 },
                max_episode_steps: 500,
                reward_threshold: Some(475.0),
                reference: Some(ReferenceScores { random: 22.2, expert: 500.0 }),
                success: Success::Truncated,
            },
            sutton_barto_reward: options::flag(Self::ID, kwargs, "sutton_barto_reward", false)?,
            state: [0.0; 4],
        })
    }

    fn controller(&self) -> Box<dyn Controller> {
        Box::new(Balance)
    }

    fn set_state(&mut self, state: &[f64]) {
        self.state.copy_from_slice(state);
    }
}

impl CartPole {
    fn write(&self, observation: &mut [f32]) {
        for (number, state) in observation.iter_mut().zip(self.state) {
            *number = state as f32;
        }
    }
}

impl Task for CartPole {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut dyn RngCore, observation: &mut [f32]) {
        self.state = std::array::from_fn(|_| uniform(rng, -0.05, 0.05));
        self.write(observation);
    }

    fn step(&mut self, action: &[f32], observation: &mut [f32]) -> Step {
        let [x, speed, angle, spin] = self.state;
        let force = if action[0] == 1.0 { FORCE } else { -FORCE };
        let (sin, cos) = angle.sin_cos();
        let push = (force + POLE_MOMENT * (spin * spin) * sin) / TOTAL_MASS;
        let turn =
            (GRAVITY * sin - cos * push) / (HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * (cos * cos) / TOTAL_MASS));
        let acceleration = push - POLE_MOMENT * turn * cos / TOTAL_MASS;
        self.state = [
            x + STEP_SECS * speed,
            speed + STEP_SECS * acceleration,
            angle + STEP_SECS * spin,
            spin + STEP_SECS * turn,
        ];
        self.write(observation);
        let [x, _, angle, _] = self.state;
        let fallen = !(-FURTHEST..=FURTHEST).contains(&x) || !(-STEEPEST..=STEEPEST).contains(&angle);
        let reward = match (self.sutton_barto_reward, fallen) {
            (false, _) => 1.0,
            (true, false) => 0.0,
            (true, true) => -1.0,
        };
        Step { reward, phase: if fallen { Phase::Terminated } else { Phase::Running } }
    }
}

/// Pushes towards where the pole leans and drifts, with the cart's drift counted in.
struct Balance;

impl Controller for Balance {
    fn act(&mut self, observation: &[f32], action: &mut [f32]) {
        let [x, speed, angle, spin] = observation else { panic!("CartPole has four observations") };
        let lean = x + 1.6 * speed + 18.0 * angle + 3.4 * spin;
        action[0] = if lean > 0.0 { 1.0 } else { 0.0 };
    }
}
