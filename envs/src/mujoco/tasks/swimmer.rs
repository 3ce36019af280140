//! Swimmer-v5: three links in a viscous plane that swim along x.
//!
//! A step earns its speed, less the cost of its controls; an episode never ends by itself.

use rand::RngCore;

use crate::core::error::EnvError;
use crate::core::kwargs::KwargReader;
use crate::mujoco::engine::formulas::{add_uniform, control_cost};
use crate::mujoco::engine::simulation::Simulation;
use crate::mujoco::engine::task::{ModelFacts, Rules};
use crate::mujoco::engine::view::Camera;

/// Positions are x, y, angle of the first link, and two joints.
#[derive(Clone, Debug)]
pub struct Swimmer {
    forward_reward_weight: f64,
    ctrl_cost_weight: f64,
    reset_noise_scale: f64,
    exclude_current_positions_from_observation: bool,
}

impl Rules for Swimmer {
    const FACTS: ModelFacts = ModelFacts {
        id: "Swimmer-v5",
        xml_file: "swimmer.xml",
        frame_skip: 4,
        max_episode_steps: 1000,
        reward_threshold: Some(360.0),
        reference: None,
        camera: Camera {
            follows: Some(1),
            lookat: [0.0, 0.0, 0.0],
            distance: 4.5,
            azimuth: 90.0,
            elevation: -45.0,
        },
    };

    fn from_kwargs(kwargs: &mut KwargReader, simulation: &Simulation) -> Result<Self, EnvError> {
        simulation.has_at_least(2, 1)?;
        Ok(Self {
            forward_reward_weight: kwargs.number("forward_reward_weight", 1.0)?,
            ctrl_cost_weight: kwargs.number("ctrl_cost_weight", 1e-4)?,
            reset_noise_scale: kwargs.size("reset_noise_scale", 0.1)?,
            exclude_current_positions_from_observation: kwargs
                .boolean("exclude_current_positions_from_observation", true)?,
        })
    }

    fn start(&self, simulation: &mut Simulation, rng: &mut dyn RngCore) {
        add_uniform(simulation.qpos_mut(), self.reset_noise_scale, rng);
        add_uniform(simulation.qvel_mut(), self.reset_noise_scale, rng);
    }

    fn observe(&self, simulation: &Simulation, shown: &mut Vec<f64>) {
        let hidden = 2 * usize::from(self.exclude_current_positions_from_observation);
        shown.extend(&simulation.qpos()[hidden..]);
        shown.extend(simulation.qvel());
    }

    fn step(&self, simulation: &mut Simulation, action: &[f32]) -> (f64, bool) {
        let before = simulation.qpos()[0];
        simulation.step(action);
        let velocity = (simulation.qpos()[0] - before) / simulation.step_secs();

        let forward_reward = self.forward_reward_weight * velocity;
        (forward_reward - control_cost(self.ctrl_cost_weight, action), false)
    }
}
