//! HumanoidStandup-v5: the humanoid, lying, that stands up.
//!
//! A step earns its torso's height, less the costs of its controls and of what presses on its bodies;
//! an episode never ends by itself.

use rand::RngCore;

use crate::core::error::EnvError;
use crate::core::kwargs::KwargReader;
use crate::mujoco::engine::body_view::BodyView;
use crate::mujoco::engine::formulas::add_uniform;
use crate::mujoco::engine::simulation::Simulation;
use crate::mujoco::engine::sums::sum_of_squares;
use crate::mujoco::engine::task::{ModelFacts, Rules};
use crate::mujoco::engine::view::Camera;

/// Positions are a place and a quaternion, and seventeen joints.
#[derive(Clone, Debug)]
pub struct HumanoidStandup {
    /// Read and, as in Gymnasium, without effect.
    _uph_cost_weight: f64,
    ctrl_cost_weight: f64,
    impact_cost_weight: f64,
    impact_cost_range: (f64, f64),
    reset_noise_scale: f64,
    view: BodyView,
}

impl Rules for HumanoidStandup {
    const FACTS: ModelFacts = ModelFacts {
        id: "HumanoidStandup-v5",
        xml_file: "humanoidstandup.xml",
        frame_skip: 5,
        max_episode_steps: 1000,
        reward_threshold: None,
        reference: None,
        camera: Camera {
            follows: Some(1),
            lookat: [0.0, 0.0, 0.5],
            distance: 3.2,
            azimuth: 120.0,
            elevation: -15.0,
        },
    };

    fn from_kwargs(kwargs: &mut KwargReader, simulation: &Simulation) -> Result<Self, EnvError> {
        simulation.has_at_least(3, 6)?;
        Ok(Self {
            _uph_cost_weight: kwargs.number("uph_cost_weight", 1.0)?,
            ctrl_cost_weight: kwargs.number("ctrl_cost_weight", 0.1)?,
            impact_cost_weight: kwargs.number("impact_cost_weight", 5e-7)?,
            impact_cost_range: kwargs.range("impact_cost_range", (f64::NEG_INFINITY, 10.0))?,
            reset_noise_scale: kwargs.size("reset_noise_scale", 1e-2)?,
            view: BodyView::from_kwargs(kwargs)?,
        })
    }

    fn start(&self, simulation: &mut Simulation, rng: &mut dyn RngCore) {
        add_uniform(simulation.qpos_mut(), self.reset_noise_scale, rng);
        add_uniform(simulation.qvel_mut(), self.reset_noise_scale, rng);
    }

    fn observe(&self, simulation: &Simulation, shown: &mut Vec<f64>) {
        self.view.observe(simulation, shown);
    }

    fn step(&self, simulation: &mut Simulation, action: &[f32]) -> (f64, bool) {
        simulation.step(action);
        simulation.update_contact_forces();

        let data = simulation.data();
        let height_reward = simulation.qpos()[2] / simulation.timestep_secs();
        let control_cost = self.ctrl_cost_weight * sum_of_squares(data.ctrl().iter().copied());
        let (least, most) = self.impact_cost_range;
        let pressure = sum_of_squares(data.cfrc_ext().as_flattened().iter().copied());
        let impact_cost = (self.impact_cost_weight * pressure).clamp(least, most);
        (height_reward - control_cost - impact_cost + 1.0, false)
    }
}
