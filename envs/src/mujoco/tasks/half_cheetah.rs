//! HalfCheetah-v5: a back leg, a spine and a front leg, in a plane, that run forward.
//!
//! A step earns its speed, less the cost of its controls; an episode never ends by itself.

use rand::RngCore;

use super::half_cheetah_gait::HALF_CHEETAH;
use crate::core::error::EnvError;
use crate::core::kwargs::KwargReader;
use crate::core::spec::ReferenceScores;
use crate::mujoco::engine::formulas::{add_normal, add_uniform, control_cost};
use crate::mujoco::engine::gait::Gait;
use crate::mujoco::engine::simulation::Simulation;
use crate::mujoco::engine::task::{ModelFacts, Rules};
use crate::mujoco::engine::view::Camera;

/// Positions are x, height, angle of the spine, and six joints.
#[derive(Clone, Debug)]
pub struct HalfCheetah {
    forward_reward_weight: f64,
    ctrl_cost_weight: f64,
    reset_noise_scale: f64,
    exclude_current_positions_from_observation: bool,
}

impl Rules for HalfCheetah {
    const FACTS: ModelFacts = ModelFacts {
        id: "HalfCheetah-v5",
        xml_file: "half_cheetah.xml",
        frame_skip: 5,
        max_episode_steps: 1000,
        reward_threshold: Some(4800.0),
        reference: Some(ReferenceScores::agent(-280.178953, 12135.0)),
        camera: Camera {
            follows: Some(1),
            lookat: [0.0, 0.0, 0.5],
            distance: 3.2,
            azimuth: 90.0,
            elevation: -12.0,
        },
    };

    const GAIT: Option<Gait> = Some(HALF_CHEETAH);

    fn from_kwargs(kwargs: &mut KwargReader, simulation: &Simulation) -> Result<Self, EnvError> {
        simulation.has_at_least(1, 1)?;
        Ok(Self {
            forward_reward_weight: kwargs.number("forward_reward_weight", 1.0)?,
            ctrl_cost_weight: kwargs.number("ctrl_cost_weight", 0.1)?,
            reset_noise_scale: kwargs.size("reset_noise_scale", 0.1)?,
            exclude_current_positions_from_observation: kwargs
                .boolean("exclude_current_positions_from_observation", true)?,
        })
    }

    fn start(&self, simulation: &mut Simulation, rng: &mut dyn RngCore) {
        add_uniform(simulation.qpos_mut(), self.reset_noise_scale, rng);
        add_normal(simulation.qvel_mut(), self.reset_noise_scale, rng);
    }

    fn observe(&self, simulation: &Simulation, shown: &mut Vec<f64>) {
        let hidden = usize::from(self.exclude_current_positions_from_observation);
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
