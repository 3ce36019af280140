//! What the tasks share: a simulation, and what a task adds to it.

use std::fmt;
use std::sync::Arc;

use rand::RngCore;

use super::gait::Gait;
use super::picture;
use super::simulation::Simulation;
use super::view::{self, Camera, View};
use crate::core::controller::Controller;
use crate::core::error::EnvError;
use crate::core::kwargs::{KwargReader, Kwargs};
use crate::core::registered::Registered;
use crate::core::spec::{EnvSpec, ReferenceScores, Success};
use crate::core::task::{NativeTask, Step, Task};
use crate::render::Frame;

/// What is said of a task once.
pub struct ModelFacts {
    /// Gymnasium's id.
    pub id: &'static str,
    /// Gymnasium's model.
    pub xml_file: &'static str,
    /// Steps of MuJoCo's in one of the task's.
    pub frame_skip: u16,
    /// Steps after which an episode is truncated.
    pub max_episode_steps: u32,
    /// Gymnasium's return at which the task counts as solved.
    pub reward_threshold: Option<f64>,
    /// Returns that normalised scores refer to.
    pub reference: Option<ReferenceScores>,
    /// From where it is looked at.
    pub camera: Camera,
}

/// What a task adds to a simulation.
pub trait Rules: Clone + Send + fmt::Debug + 'static {
    /// What is said of it once.
    const FACTS: ModelFacts;
    /// Its scripted controller, if it has one.
    const GAIT: Option<Gait> = None;

    /// Reads the task's kwargs, and refuses a model that it cannot be played with.
    fn from_kwargs(kwargs: &mut KwargReader, simulation: &Simulation) -> Result<Self, EnvError>;

    /// Moves a simulation from its model's own pose to a start.
    fn start(&self, simulation: &mut Simulation, rng: &mut dyn RngCore);

    /// Adds what the task shows to `shown`, which is empty.
    fn observe(&self, simulation: &Simulation, shown: &mut Vec<f64>);

    /// Acts once, and answers with the reward and whether the episode has ended.
    fn step(&self, simulation: &mut Simulation, action: &[f32]) -> (f64, bool);
}

/// A task in a simulation. Clones share the model.
#[derive(Clone, Debug)]
pub struct MujocoTask<R> {
    spec: Arc<EnvSpec>,
    rules: R,
    simulation: Simulation,
    view: View,
    shown: Vec<f64>,
    earned: f64,
}

impl<R: Rules> MujocoTask<R> {
    /// A task as `kwargs` want it, in its model's own pose.
    pub fn new(kwargs: &Kwargs) -> Result<Self, EnvError> {
        let mut reader = KwargReader::new(R::FACTS.id, kwargs);
        let task = Self::from_kwargs(&mut reader)?;
        reader.finish()?;
        Ok(task)
    }

    pub(crate) fn from_kwargs(kwargs: &mut KwargReader) -> Result<Self, EnvError> {
        let facts = R::FACTS;
        let mut simulation = Simulation::from_kwargs(kwargs, facts.xml_file, facts.frame_skip)?;
        let rules = R::from_kwargs(kwargs, &simulation)?;
        let view = View::from_kwargs(kwargs, &simulation, facts.camera)?;
        simulation.forward();
        let mut shown = Vec::new();
        rules.observe(&simulation, &mut shown);
        let spec = EnvSpec {
            id: facts.id.to_owned(),
            observation_low: vec![f32::NEG_INFINITY; shown.len()],
            observation_high: vec![f32::INFINITY; shown.len()],
            space: None,
            image: None,
            action: simulation.action_space()?,
            max_episode_steps: facts.max_episode_steps,
            reward_threshold: facts.reward_threshold,
            // Returns of other rewards cannot be measured against them.
            reference: facts.reference.filter(|_| kwargs.only(&view::KWARGS)),
            success: Success::Undefined,
            infos: Vec::new(),
        };
        Ok(Self { spec: Arc::new(spec), rules, simulation, view, shown, earned: 0.0 })
    }

    /// What was shown last, before it was rounded to `f32`.
    pub fn exact_observation(&self) -> &[f64] {
        &self.shown
    }

    /// What was earned last, before it was rounded to `f32`.
    pub fn exact_reward(&self) -> f64 {
        self.earned
    }

    fn observe(&mut self, observation: &mut [f32]) {
        self.shown.clear();
        self.rules.observe(&self.simulation, &mut self.shown);
        let (found, wanted) = (observation.len(), self.shown.len());
        assert_eq!(found, wanted, "an observation of `{}` has the wrong length", R::FACTS.id);
        for (row, value) in observation.iter_mut().zip(&self.shown) {
            *row = *value as f32;
        }
    }
}

impl<R: Rules> Task for MujocoTask<R> {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut dyn RngCore, observation: &mut [f32]) {
        self.simulation.reset();
        self.rules.start(&mut self.simulation, rng);
        self.simulation.forward();
        self.observe(observation);
    }

    fn step(&mut self, action: &[f32], observation: &mut [f32]) -> Step {
        let (reward, ends) = self.rules.step(&mut self.simulation, action);
        self.earned = reward;
        self.observe(observation);
        Step::new(reward as f32, ends)
    }

    fn render(&self) -> Option<Frame> {
        Some(picture::draw(&self.simulation, &self.view))
    }
}

impl<R: Rules> NativeTask for MujocoTask<R> {
    /// Positions, then velocities.
    fn set_state(&mut self, state: &[f64], observation: &mut [f32]) {
        self.simulation.reset();
        let positions = self.simulation.qpos().len();
        let wanted = positions + self.simulation.qvel().len();
        assert_eq!(state.len(), wanted, "a state of `{}` has the wrong length", R::FACTS.id);
        self.simulation.qpos_mut().copy_from_slice(&state[..positions]);
        self.simulation.qvel_mut().copy_from_slice(&state[positions..]);
        self.simulation.forward();
        self.observe(observation);
    }
}

impl<R: Rules> Registered for MujocoTask<R> {
    const ID: &'static str = R::FACTS.id;
    const GRAIN: usize = 1;

    fn from_kwargs(kwargs: &mut KwargReader) -> Result<Self, EnvError> {
        Self::from_kwargs(kwargs)
    }

    fn controller(&self) -> Option<Box<dyn Controller>> {
        let width = self.spec.observation_width();
        Some(Box::new(R::GAIT.filter(|gait| gait.gain[0].len() == width)?))
    }
}
