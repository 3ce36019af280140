//! Acrobot-v1: two links hung in a row, a motor between them; raise the tip above the bar.

use std::f64::consts::{FRAC_PI_2, PI};

use rand::RngCore;

use super::{Native, uniform};
use crate::error::EnvError;
use crate::options::Kwargs;
use crate::spec::{ActionSpace, EnvSpec, Phase, ReferenceScores, Success};
use crate::task::{Controller, Step, Task};

const STEP_SECS: f64 = 0.2;
const GRAVITY: f64 = 9.8;
/// Distance of each link's centre of mass from its joint; lengths, masses and moments are 1.
const CENTRE: f64 = 0.5;
const FASTEST: [f64; 2] = [4.0 * PI, 9.0 * PI];

/// The task; a state is both angles and both angular velocities, in Sutton and Barto's book's form.
#[derive(Debug)]
pub struct Acrobot {
    spec: EnvSpec,
    state: [f64; 4],
}

impl Native for Acrobot {
    const ID: &'static str = "Acrobot-v1";
    const OPTIONS: &'static [&'static str] = &[];

    fn new(_: &Kwargs) -> Result<Self, EnvError> {
        let high = vec![1.0, 1.0, 1.0, 1.0, FASTEST[0] as f32, FASTEST[1] as f32];
        Ok(Self {
            spec: EnvSpec {
                id: Self::ID.to_owned(),
                observation_low: high.iter().map(|x| -x).collect(),
                observation_high: high,
                action: ActionSpace::Discrete { n: 3 },
                max_episode_steps: 500,
                reward_threshold: Some(-100.0),
                reference: Some(ReferenceScores { random: -498.5, expert: -90.0 }),
                success: Success::Terminated,
            },
            state: [0.0; 4],
        })
    }

    fn controller(&self) -> Box<dyn Controller> {
        Box::new(Pump)
    }

    fn set_state(&mut self, state: &[f64]) {
        self.state.copy_from_slice(state);
    }
}

impl Acrobot {
    fn write(&self, observation: &mut [f32]) {
        let [first, second, first_spin, second_spin] = self.state;
        let numbers = [first.cos(), first.sin(), second.cos(), second.sin(), first_spin, second_spin];
        observation.copy_from_slice(&numbers.map(|x| x as f32));
    }
}

impl Task for Acrobot {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut dyn RngCore, observation: &mut [f32]) {
        // Gymnasium rounds the first state to float32.
        self.state = std::array::from_fn(|_| f64::from(uniform(rng, -0.1, 0.1) as f32));
        self.write(observation);
    }

    fn step(&mut self, action: &[f32], observation: &mut [f32]) -> Step {
        let torque = f64::from(action[0]) - 1.0;
        let [first, second, first_spin, second_spin] = runge_kutta(self.state, torque);
        self.state = [
            wrap(first),
            wrap(second),
            first_spin.clamp(-FASTEST[0], FASTEST[0]),
            second_spin.clamp(-FASTEST[1], FASTEST[1]),
        ];
        self.write(observation);
        let [first, second, ..] = self.state;
        let above = -first.cos() - (second + first).cos() > 1.0;
        if above {
            Step { reward: 0.0, phase: Phase::Terminated }
        } else {
            Step { reward: -1.0, phase: Phase::Running }
        }
    }
}

/// One fourth-order Runge–Kutta step.
fn runge_kutta(state: [f64; 4], torque: f64) -> [f64; 4] {
    let ahead = |slope: [f64; 4], secs: f64| std::array::from_fn(|i| state[i] + secs * slope[i]);
    let k1 = slope(state, torque);
    let k2 = slope(ahead(k1, STEP_SECS / 2.0), torque);
    let k3 = slope(ahead(k2, STEP_SECS / 2.0), torque);
    let k4 = slope(ahead(k3, STEP_SECS), torque);
    std::array::from_fn(|i| state[i] + STEP_SECS / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]))
}

/// Time derivative of the state.
fn slope([first, second, first_spin, second_spin]: [f64; 4], torque: f64) -> [f64; 4] {
    let (sin, cos) = second.sin_cos();
    let d1 = CENTRE.powi(2) + (1.0 + CENTRE.powi(2) + 2.0 * CENTRE * cos) + 1.0 + 1.0;
    let d2 = (CENTRE.powi(2) + CENTRE * cos) + 1.0;
    let phi2 = CENTRE * GRAVITY * (first + second - FRAC_PI_2).cos();
    let phi1 = -CENTRE * second_spin.powi(2) * sin - 2.0 * CENTRE * second_spin * first_spin * sin
        + (CENTRE + 1.0) * GRAVITY * (first - FRAC_PI_2).cos()
        + phi2;
    let second_turn = (torque + d2 / d1 * phi1 - CENTRE * first_spin.powi(2) * sin - phi2)
        / (CENTRE.powi(2) + 1.0 - d2.powi(2) / d1);
    let first_turn = -(d2 * second_turn + phi1) / d1;
    [first_spin, second_spin, first_turn, second_turn]
}

/// The same angle in [−π, π].
fn wrap(mut angle: f64) -> f64 {
    while angle > PI {
        angle -= 2.0 * PI;
    }
    while angle < -PI {
        angle += 2.0 * PI;
    }
    angle
}

/// Adds energy: the motor pushes the way its joint already turns.
struct Pump;

impl Controller for Pump {
    fn act(&mut self, observation: &[f32], action: &mut [f32]) {
        action[0] = if observation[5] >= 0.0 { 2.0 } else { 0.0 };
    }
}
