//! MountainCar-v0: a car in a valley, too weak to climb out without swinging up first.
//!
//! Moore (1990): `v ← v + 0.001·(a − 1) − 0.0025·cos 3x`, then `x ← x + v`; each step costs 1.

use std::ops::Range;
use std::sync::Arc;

use rand::{Rng, RngCore};

use super::rows::{car, index, state, write};
use crate::core::controller::Controller;
use crate::core::error::EnvError;
use crate::core::kwargs::KwargReader;
use crate::core::registered::Registered;
use crate::core::spec::{ActionSpace, EnvSpec, ReferenceScores, Success};
use crate::core::task::{NativeTask, Step, Task};
use crate::render::Frame;
use crate::render::classic as draw;
use crate::render::trig::cos;

const MIN_POSITION: f64 = -1.2;
const MAX_POSITION: f64 = 0.6;
const MAX_SPEED: f64 = 0.07;
const GOAL_POSITION: f64 = 0.5;
const FORCE: f64 = 0.001;
const GRAVITY: f64 = 0.0025;
/// Where a car starts, at rest.
const START: Range<f64> = -0.6..-0.4;

/// A car in a valley; actions are left, coast and right.
#[derive(Clone, Debug)]
pub struct MountainCar {
    spec: Arc<EnvSpec>,
    goal_velocity: f64,
    position: f64,
    velocity: f64,
}

impl MountainCar {
    /// Gymnasium's id.
    pub const ID: &'static str = "MountainCar-v0";

    /// The goal counts only at `goal_velocity` or faster.
    pub fn new(goal_velocity: f64) -> Self {
        let spec = EnvSpec {
            id: Self::ID.to_owned(),
            observation_low: vec![MIN_POSITION as f32, -MAX_SPEED as f32],
            observation_high: vec![MAX_POSITION as f32, MAX_SPEED as f32],
            space: None,
            image: None,
            action: ActionSpace::Discrete { n: 3, start: 0 },
            max_episode_steps: 200,
            reward_threshold: Some(-110.0),
            reference: (goal_velocity == 0.0).then_some(ReferenceScores::agent(-200.0, -106.0)),
            infos: Vec::new(),
            success: Success::Terminated,
        };
        Self { spec: Arc::new(spec), goal_velocity, position: -0.5, velocity: 0.0 }
    }

    fn observe(&self, observation: &mut [f32]) {
        write(observation, [self.position, self.velocity]);
    }
}

impl Task for MountainCar {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut dyn RngCore, observation: &mut [f32]) {
        self.set_state(&[rng.gen_range(START), 0.0], observation);
    }

    fn step(&mut self, action: &[f32], observation: &mut [f32]) -> Step {
        let push = (f64::from(index(action, 3)) - 1.0) * FORCE;
        let velocity = self.velocity + (push + cos(3.0 * self.position) * -GRAVITY);
        self.velocity = velocity.clamp(-MAX_SPEED, MAX_SPEED);
        self.position = (self.position + self.velocity).clamp(MIN_POSITION, MAX_POSITION);
        if self.position == MIN_POSITION && self.velocity < 0.0 {
            self.velocity = 0.0;
        }
        self.observe(observation);
        Step::new(-1.0, self.position >= GOAL_POSITION && self.velocity >= self.goal_velocity)
    }

    fn render(&self) -> Option<Frame> {
        Some(draw::valley(self.position, GOAL_POSITION))
    }
}

impl NativeTask for MountainCar {
    fn set_state(&mut self, numbers: &[f64], observation: &mut [f32]) {
        [self.position, self.velocity] = state(numbers);
        self.observe(observation);
    }

    fn start_ranges(&self, bound: &dyn Fn(&str, f64) -> f64) -> Option<Vec<(f64, f64)>> {
        Some(vec![(bound("low", START.start), bound("high", START.end)), (0.0, 0.0)])
    }
}

/// Drives the car out of its valley by pushing the way it already moves.
#[derive(Clone, Copy, Debug)]
pub struct MountainCarController;

impl Controller for MountainCarController {
    fn act(&mut self, observation: &[f32], action: &mut [f32]) {
        let (position, velocity) = car(observation);
        // Turning a little before the car does saves a tenth of the steps.
        let turn = 0.0083 * (position + 0.5) - 0.0002;
        action[0] = if velocity > turn { 2.0 } else { 0.0 };
    }
}

impl Registered for MountainCar {
    const ID: &'static str = Self::ID;
    const GRAIN: usize = 1024;

    fn from_kwargs(kwargs: &mut KwargReader) -> Result<Self, EnvError> {
        Ok(Self::new(kwargs.number("goal_velocity", 0.0)?))
    }

    fn controller(&self) -> Option<Box<dyn Controller>> {
        Some(Box::new(MountainCarController))
    }
}
