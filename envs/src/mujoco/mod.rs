//! The MuJoCo tasks of Gymnasium 1.4, version 5, equal to it from equal states.
//!
//! A task is one file here: its [`Rules`] are Gymnasium's formulas written out, with Gymnasium's names
//! of kwargs. What all of them share is [`MujocoTask`], and physics are [`Simulation`]'s.
//!
//! Reference scores are D4RL's (its `infos.py`), whose Hopper, HalfCheetah, Walker2d and Ant are of
//! version 2; there are none for the rest.

mod engine;
mod tasks;

pub use engine::simulation::Simulation;
pub use engine::task::{ModelFacts, MujocoTask, Rules};
pub use engine::view::Camera;
pub use tasks::*;
