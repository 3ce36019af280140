//! MountainCarContinuous-v0: the same hill with a throttle, whose use costs.

use rand::RngCore;

use super::{Native, uniform};
use crate::error::EnvError;
use crate::options::{self, Kwargs};
use crate::spec::{ActionSpace, EnvSpec, Phase, ReferenceScores, Success};
use crate::task::{Controller, Step, Task};

const LEFT: f64 = -1.2;
const RIGHT: f64 = 0.6;
const FASTEST: f64 = 0.07;
const GOAL: f64 = 0.45;
const POWER: f32 = 0.0015;
const GRAVITY: f64 = 0.0025;

/// The task; a state is position and velocity.
///
/// Gymnasium keeps the state in float64 until the first step and in float32 from then on, and so
/// does this.
#[derive(Debug)]
pub struct MountainCarContinuous {
    spec: EnvSpec,
    goal_velocity: f64,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Fresh([f64; 2]),
    Moving([f32; 2]),
}

impl Native for MountainCarContinuous {
    const ID: &'static str = "MountainCarContinuous-v0";
    const OPTIONS: &'static [&'static str] = &["goal_velocity"];

    fn new(kwargs: &Kwargs) -> Result<Self, EnvError> {
        Ok(Self {
            spec: EnvSpec {
                id: Self::ID.to_owned(),
                observation_low: vec![LEFT as f32, -FASTEST as f32],
                observation_high: vec![RIGHT as f32, FASTEST as f32],
                action: ActionSpace::Box { low: vec![-1.0], high: vec![1.0] },
                max_episode_steps: 999,
                reward_threshold: Some(90.0),
                reference: Some(ReferenceScores { random: -33.1, expert: 94.3 }),
                success: Success::Terminated,
            },
            goal_velocity: options::number(Self::ID, kwargs, "goal_velocity", 0.0)?,
            state: State::Fresh([0.0; 2]),
        })
    }

    fn controller(&self) -> Box<dyn Controller> {
        Box::new(Swing)
    }

    fn set_state(&mut self, state: &[f64]) {
        self.state = State::Fresh([state[0], state[1]]);
    }
}

impl Task for MountainCarContinuous {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut dyn RngCore, observation: &mut [f32]) {
        let state = [uniform(rng, -0.6, -0.4), 0.0];
        self.state = State::Fresh(state);
        observation.copy_from_slice(&state.map(|x| x as f32));
    }

    fn step(&mut self, action: &[f32], observation: &mut [f32]) -> Step {
        let throttle = action[0].clamp(-1.0, 1.0) * POWER;
        let pull = |slope: f64| throttle - (GRAVITY * slope.cos()) as f32;
        let (mut position, mut velocity, goal) = match self.state {
            State::Fresh([position, velocity]) => {
                let velocity = (velocity + f64::from(pull(3.0 * position))).clamp(-FASTEST, FASTEST);
                (position + velocity, velocity, GOAL)
            }
            State::Moving([position, velocity]) => {
                let velocity = velocity + pull(f64::from(3.0 * position));
                let velocity = velocity.clamp(-FASTEST as f32, FASTEST as f32);
                (f64::from(position + velocity), f64::from(velocity), f64::from(GOAL as f32))
            }
        };
        position = position.clamp(LEFT, RIGHT);
        if position == LEFT && velocity < 0.0 {
            velocity = 0.0;
        }
        let arrived = position >= goal && velocity >= self.goal_velocity;
        let state = [position as f32, velocity as f32];
        self.state = State::Moving(state);
        observation.copy_from_slice(&state);
        let effort = f64::from(action[0]).powi(2) * 0.1;
        let reward = if arrived { 100.0 - effort } else { -effort };
        Step { reward: reward as f32, phase: if arrived { Phase::Terminated } else { Phase::Running } }
    }
}

/// Pushes the way the car already moves, no harder than it must.
struct Swing;

impl Controller for Swing {
    fn act(&mut self, observation: &[f32], action: &mut [f32]) {
        let [_, velocity] = observation else { panic!("MountainCarContinuous has two observations") };
        action[0] = if *velocity >= 0.0 { 0.7 } else { -0.7 };
    }
}
