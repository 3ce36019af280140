//! InvertedPendulum-v5: a cart on a rail that keeps its pole upright.
//!
//! Every step before the pole leans by more than 0.2 rad earns 1.

use rand::RngCore;

use crate::core::error::EnvError;
use crate::core::kwargs::KwargReader;
use crate::mujoco::engine::formulas::add_uniform;
use crate::mujoco::engine::simulation::Simulation;
use crate::mujoco::engine::task::{ModelFacts, Rules};
use crate::mujoco::engine::view::Camera;

/// Positions are the cart's and the pole's.
#[derive(Clone, Debug)]
pub struct InvertedPendulum {
    reset_noise_scale: f64,
}

impl Rules for InvertedPendulum {
    const FACTS: ModelFacts = ModelFacts {
        id: "InvertedPendulum-v5",
        xml_file: "inverted_pendulum.xml",
        frame_skip: 2,
        max_episode_steps: 1000,
        reward_threshold: Some(950.0),
        reference: None,
        camera: Camera {
            follows: None,
            lookat: [0.0, 0.0, 0.1],
            distance: 2.8,
            azimuth: 90.0,
            elevation: -5.0,
        },
    };

    fn from_kwargs(kwargs: &mut KwargReader, simulation: &Simulation) -> Result<Self, EnvError> {
        simulation.has(2, 2)?;
        Ok(Self { reset_noise_scale: kwargs.size("reset_noise_scale", 0.01)? })
    }

    fn start(&self, simulation: &mut Simulation, rng: &mut dyn RngCore) {
        add_uniform(simulation.qpos_mut(), self.reset_noise_scale, rng);
        add_uniform(simulation.qvel_mut(), self.reset_noise_scale, rng);
    }

    fn observe(&self, simulation: &Simulation, shown: &mut Vec<f64>) {
        shown.extend(simulation.qpos());
        shown.extend(simulation.qvel());
    }

    fn step(&self, simulation: &mut Simulation, action: &[f32]) -> (f64, bool) {
        simulation.step(action);

        let (qpos, qvel) = (simulation.qpos(), simulation.qvel());
        let finite = qpos.iter().chain(qvel).all(|value| value.is_finite());
        let fallen = !finite || qpos[1].abs() > 0.2;
        (if fallen { 0.0 } else { 1.0 }, fallen)
    }
}
