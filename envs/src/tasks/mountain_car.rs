//! MountainCar-v0: an engine too weak for the hill, so it must swing first.

use rand::RngCore;

use super::{Native, uniform};
use crate::error::EnvError;
use crate::options::{self, Kwargs};
use crate::spec::{ActionSpace, EnvSpec, Phase, ReferenceScores, Success};
use crate::task::{Controller, Step, Task};

const LEFT: f64 = -1.2;
const RIGHT: f64 = 0.6;
const FASTEST: f64 = 0.07;
const GOAL: f64 = 0.5;
const FORCE: f64 = 0.001;
const GRAVITY: f64 = 0.0025;

/// The task; a state is position and velocity.
#[derive(Debug)]
pub struct MountainCar {
    spec: EnvSpec,
    goal_velocity: f64,
    state: [f64; 2],
}

impl Native for MountainCar {
    const ID: &'static str = "MountainCar-v0";
    const OPTIONS: &'static [&'static str] = &["goal_velocity"];

    fn new(kwargs: &Kwargs) -> Result<Self, EnvError> {
        Ok(Self {
            spec: EnvSpec {
                id: Self::ID.to_owned(),
                observation_low: vec![LEFT as f32, -FASTEST as f32],
                observation_high: vec![RIGHT as f32, FASTEST as f32],
                action: ActionSpace::Discrete { n: 3 },
                max_episode_steps: 200,
                reward_threshold: Some(-110.0),
                reference: Some(ReferenceScores { random: -200.0, expert: -106.2 }),
                success: Success::Terminated,
            },
            goal_velocity: options::number(Self::ID, kwargs, "goal_velocity", 0.0)?,
            state: [0.0; 2],
        })
    }

    fn controller(&self) -> Box<dyn Controller> {
        Box::new(Swing)
    }

    fn set_state(&mut self, state: &[f64]) {
        self.state.copy_from_slice(state);
    }
}

impl Task for MountainCar {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut dyn RngCore, observation: &mut [f32]) {
        self.state = [uniform(rng, -0.6, -0.4), 0.0];
        observation.copy_from_slice(&self.state.map(|x| x as f32));
    }

    fn step(&mut self, action: &[f32], observation: &mut [f32]) -> Step {
        let [position, velocity] = self.state;
        let pull = (f64::from(action[0]) - 1.0) * FORCE + (3.0 * position).cos() * -GRAVITY;
        let mut velocity = (velocity + pull).clamp(-FASTEST, FASTEST);
        let position = (position + velocity).clamp(LEFT, RIGHT);
        if position == LEFT && velocity < 0.0 {
            velocity = 0.0;
        }
        self.state = [position, velocity];
        observation.copy_from_slice(&self.state.map(|x| x as f32));
        let arrived = position >= GOAL && velocity >= self.goal_velocity;
        Step { reward: -1.0, phase: if arrived { Phase::Terminated } else { Phase::Running } }
    }
}

/// Pushes the way the car already moves, but saves the push where the slope will turn it anyway.
struct Swing;

impl Controller for Swing {
    fn act(&mut self, observation: &[f32], action: &mut [f32]) {
        let [position, velocity] = observation else { panic!("MountainCar has two observations") };
        // A parabola in position splits the states from which the goal is reached by pushing right.
        let low = (-0.09 * (position + 0.25).powi(2) + 0.03).min(0.3 * (position + 0.9).powi(4) - 0.008);
        let high = -0.07 * (position + 0.38).powi(2) + 0.07;
        action[0] = if low < *velocity && *velocity < high { 2.0 } else { 0.0 };
    }
}
