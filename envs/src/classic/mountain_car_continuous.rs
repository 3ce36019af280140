//! MountainCarContinuous-v0: the car in its valley, with a throttle, and paid for thrift.
//!
//! `v ← v + 0.0015·a − 0.0025·cos 3x`, then `x ← x + v`; a step costs `0.1·a²`, the goal earns 100.

use std::ops::Range;
use std::sync::Arc;

use rand::{Rng, RngCore};

use super::rows::{car, state};
use crate::core::controller::Controller;
use crate::core::error::EnvError;
use crate::core::kwargs::KwargReader;
use crate::core::registered::Registered;
use crate::core::spec::{ActionSpace, EnvSpec, ReferenceScores, Success};
use crate::core::task::{NativeTask, Step, Task};
use crate::render::Frame;
use crate::render::classic as draw;
use crate::render::trig::cos;

const MIN_POSITION: f32 = -1.2;
const MAX_POSITION: f32 = 0.6;
const MAX_SPEED: f32 = 0.07;
const GOAL_POSITION: f32 = 0.45;
const POWER: f32 = 0.0015;
/// Where a car starts, at rest.
const START: Range<f64> = -0.6..-0.4;

/// A car in a valley; the action is its throttle. The state is `f32`, as Gymnasium keeps it from
/// the first step on.
#[derive(Clone, Debug)]
pub struct MountainCarContinuous {
    spec: Arc<EnvSpec>,
    goal_velocity: f32,
    position: f32,
    velocity: f32,
}

impl MountainCarContinuous {
    /// Gymnasium's id.
    pub const ID: &'static str = "MountainCarContinuous-v0";

    /// The goal counts only at `goal_velocity` or faster.
    pub fn new(goal_velocity: f64) -> Self {
        let spec = EnvSpec {
            id: Self::ID.to_owned(),
            observation_low: vec![MIN_POSITION, -MAX_SPEED],
            observation_high: vec![MAX_POSITION, MAX_SPEED],
            space: None,
            image: None,
            action: ActionSpace::Box { low: vec![-1.0], high: vec![1.0] },
            max_episode_steps: 999,
            reward_threshold: Some(90.0),
            reference: (goal_velocity == 0.0).then_some(ReferenceScores::agent(-33.0, 95.6)),
            infos: Vec::new(),
            success: Success::Terminated,
        };
        Self { spec: Arc::new(spec), goal_velocity: goal_velocity as f32, position: -0.5, velocity: 0.0 }
    }

    fn observe(&self, observation: &mut [f32]) {
        observation.copy_from_slice(&[self.position, self.velocity]);
    }
}

impl Task for MountainCarContinuous {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut dyn RngCore, observation: &mut [f32]) {
        self.set_state(&[rng.gen_range(START), 0.0], observation);
    }

    fn step(&mut self, action: &[f32], observation: &mut [f32]) -> Step {
        let &[throttle] = action else { panic!("an action is one throttle, not {}", action.len()) };
        let push = throttle.clamp(-1.0, 1.0) * POWER;
        // Only the cosine is taken in `f64`.
        let slope = 0.0025 * cos(f64::from(3.0 * self.position));
        self.velocity = (self.velocity + (push - slope as f32)).clamp(-MAX_SPEED, MAX_SPEED);
        self.position = (self.position + self.velocity).clamp(MIN_POSITION, MAX_POSITION);
        if self.position == MIN_POSITION && self.velocity < 0.0 {
            self.velocity = 0.0;
        }
        self.observe(observation);

        let arrived = self.position >= GOAL_POSITION && self.velocity >= self.goal_velocity;
        let prize = if arrived { 100.0 } else { 0.0 };
        Step::new((prize - f64::from(throttle).powi(2) * 0.1) as f32, arrived)
    }

    fn render(&self) -> Option<Frame> {
        Some(draw::valley(f64::from(self.position), f64::from(GOAL_POSITION)))
    }
}

impl NativeTask for MountainCarContinuous {
    fn set_state(&mut self, numbers: &[f64], observation: &mut [f32]) {
        [self.position, self.velocity] = state(numbers).map(|x| x as f32);
        self.observe(observation);
    }

    fn start_ranges(&self, bound: &dyn Fn(&str, f64) -> f64) -> Option<Vec<(f64, f64)>> {
        Some(vec![(bound("low", START.start), bound("high", START.end)), (0.0, 0.0)])
    }
}

/// Drives the car out of its valley by pushing the way it already moves, no harder than it must.
#[derive(Clone, Copy, Debug)]
pub struct MountainCarContinuousController;

/// Less throttle saves fuel until it takes another swing; this is the least without one.
const THROTTLE: f32 = 0.6;

impl Controller for MountainCarContinuousController {
    fn act(&mut self, observation: &[f32], action: &mut [f32]) {
        let (_position, velocity) = car(observation);
        action[0] = if velocity < 0.0 { -THROTTLE } else { THROTTLE };
    }
}

impl Registered for MountainCarContinuous {
    const ID: &'static str = Self::ID;
    const GRAIN: usize = 1024;

    fn from_kwargs(kwargs: &mut KwargReader) -> Result<Self, EnvError> {
        Ok(Self::new(kwargs.number("goal_velocity", 0.0)?))
    }

    fn controller(&self) -> Option<Box<dyn Controller>> {
        Some(Box::new(MountainCarContinuousController))
    }
}
