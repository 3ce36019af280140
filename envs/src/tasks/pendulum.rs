//! Pendulum-v1: swing a pendulum up with a weak motor and hold it there.

use std::f64::consts::PI;

use rand::RngCore;

use super::{Native, uniform};
use crate::error::EnvError;
use crate::options::{self, Kwargs};
use crate::spec::{ActionSpace, EnvSpec, Phase, ReferenceScores, Success};
use crate::task::{Controller, Step, Task};

const FASTEST: f64 = 8.0;
const STRONGEST: f32 = 2.0;
const STEP_SECS: f64 = 0.05;

/// The task; a state is the angle from upright and its velocity. Mass and length are 1.
#[derive(Debug)]
pub struct Pendulum {
    spec: EnvSpec,
    gravity: f64,
    state: [f64; 2],
}

impl Native for Pendulum {
    const ID: &'static str = "Pendulum-v1";
    const OPTIONS: &'static [&'static str] = &["g"];

    fn new(kwargs: &Kwargs) -> Result<Self, EnvError> {
        let high = vec![1.0, 1.0, FASTEST as f32];
        Ok(Self {
            spec: EnvSpec {
                id: Self::ID.to_owned(),
                observation_low: high.iter().map(|x| -x).collect(),
                observation_high: high,
                action: ActionSpace::Box { low: vec![-STRONGEST], high: vec![STRONGEST] },
                max_episode_steps: 200,
                reward_threshold: None,
                reference: Some(ReferenceScores { random: -1224.9, expert: -149.6 }),
                success: Success::Undefined,
            },
            gravity: options::number(Self::ID, kwargs, "g", 10.0)?,
            state: [0.0; 2],
        })
    }

    fn controller(&self) -> Box<dyn Controller> {
        Box::new(SwingUp { gravity: self.gravity })
    }

    fn set_state(&mut self, state: &[f64]) {
        self.state.copy_from_slice(state);
    }
}

impl Pendulum {
    fn write(&self, observation: &mut [f32]) {
        let [angle, spin] = self.state;
        observation.copy_from_slice(&[angle.cos() as f32, angle.sin() as f32, spin as f32]);
    }
}

impl Task for Pendulum {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut dyn RngCore, observation: &mut [f32]) {
        self.state = [uniform(rng, -PI, PI), uniform(rng, -1.0, 1.0)];
        self.write(observation);
    }

    fn step(&mut self, action: &[f32], observation: &mut [f32]) -> Step {
        let [angle, spin] = self.state;
        // Gymnasium's torque stays float32 until it meets the state, and so do its multiples.
        let torque = action[0].clamp(-STRONGEST, STRONGEST);
        let from_upright = (angle + PI).rem_euclid(2.0 * PI) - PI;
        let cost = from_upright * from_upright + 0.1 * (spin * spin) + f64::from(0.001 * (torque * torque));
        let acceleration = 3.0 * self.gravity / 2.0 * angle.sin() + f64::from(3.0 * torque);
        let spin = (spin + acceleration * STEP_SECS).clamp(-FASTEST, FASTEST);
        self.state = [angle + spin * STEP_SECS, spin];
        self.write(observation);
        Step { reward: -cost as f32, phase: Phase::Running }
    }
}

/// Pumps energy up to that of standing upright, then holds the pendulum by linear feedback.
struct SwingUp {
    gravity: f64,
}

impl Controller for SwingUp {
    fn act(&mut self, observation: &[f32], action: &mut [f32]) {
        let [cos, sin, spin] = observation else { panic!("Pendulum has three observations") };
        let (cos, sin, spin) = (f64::from(*cos), f64::from(*sin), f64::from(*spin));
        let angle = sin.atan2(cos);
        // Upright, angle'' = 1.5·g·angle + 3·torque; poles at −4 want these gains.
        let hold = -((1.5 * self.gravity + 16.0) / 3.0 * angle + 8.0 / 3.0 * spin);
        let torque = if cos > 0.0 && hold.abs() < 2.5 * f64::from(STRONGEST) {
            hold
        } else {
            let lacking = 1.5 * self.gravity * (1.0 - cos) - 0.5 * spin * spin;
            let direction = if spin >= 0.0 { 1.0 } else { -1.0 };
            direction * lacking * 2.0
        };
        action[0] = (torque as f32).clamp(-STRONGEST, STRONGEST);
    }
}
