//! Humanoid-v5: a body of two legs, an abdomen and two arms that walks along x.
//!
//! A step earns the speed of the centre of mass and a bonus for being upright, less the costs of its
//! controls and of what presses on its bodies; falling ends the episode.

use rand::RngCore;

use crate::core::error::EnvError;
use crate::core::kwargs::KwargReader;
use crate::mujoco::engine::body_view::BodyView;
use crate::mujoco::engine::formulas::{add_uniform, within};
use crate::mujoco::engine::simulation::Simulation;
use crate::mujoco::engine::sums::sum_of_squares;
use crate::mujoco::engine::task::{ModelFacts, Rules};
use crate::mujoco::engine::view::Camera;

/// Positions are a place and a quaternion, and seventeen joints.
#[derive(Clone, Debug)]
pub struct Humanoid {
    forward_reward_weight: f64,
    ctrl_cost_weight: f64,
    contact_cost_weight: f64,
    contact_cost_range: (f64, f64),
    healthy_reward: f64,
    terminate_when_unhealthy: bool,
    healthy_z_range: (f64, f64),
    reset_noise_scale: f64,
    view: BodyView,
}

impl Rules for Humanoid {
    const FACTS: ModelFacts = ModelFacts {
        id: "Humanoid-v5",
        xml_file: "humanoid.xml",
        frame_skip: 5,
        max_episode_steps: 1000,
        reward_threshold: None,
        reference: None,
        camera: Camera {
            follows: Some(1),
            lookat: [0.0, 0.0, 0.85],
            distance: 3.2,
            azimuth: 120.0,
            elevation: -10.0,
        },
    };

    fn from_kwargs(kwargs: &mut KwargReader, simulation: &Simulation) -> Result<Self, EnvError> {
        simulation.has_at_least(3, 6)?;
        Ok(Self {
            forward_reward_weight: kwargs.number("forward_reward_weight", 1.25)?,
            ctrl_cost_weight: kwargs.number("ctrl_cost_weight", 0.1)?,
            contact_cost_weight: kwargs.number("contact_cost_weight", 5e-7)?,
            contact_cost_range: kwargs.range("contact_cost_range", (f64::NEG_INFINITY, 10.0))?,
            healthy_reward: kwargs.number("healthy_reward", 5.0)?,
            terminate_when_unhealthy: kwargs.boolean("terminate_when_unhealthy", true)?,
            healthy_z_range: kwargs.range("healthy_z_range", (1.0, 2.0))?,
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
        let before = centre_of_mass(simulation);
        simulation.step(action);
        simulation.update_contact_forces();
        let velocity = (centre_of_mass(simulation) - before) / simulation.step_secs();

        let healthy = within(simulation.qpos()[2], self.healthy_z_range);
        let forward_reward = self.forward_reward_weight * velocity;
        let healthy_reward = if healthy { self.healthy_reward } else { 0.0 };
        let data = simulation.data();
        let control_cost = self.ctrl_cost_weight * sum_of_squares(data.ctrl().iter().copied());
        let (least, most) = self.contact_cost_range;
        let pressure = sum_of_squares(data.cfrc_ext().as_flattened().iter().copied());
        let contact_cost = (self.contact_cost_weight * pressure).clamp(least, most);
        let reward = forward_reward + healthy_reward - (control_cost + contact_cost);
        (reward, !healthy && self.terminate_when_unhealthy)
    }
}

/// Along x.
fn centre_of_mass(simulation: &Simulation) -> f64 {
    let masses = simulation.model().body_mass();
    let moments = masses.iter().zip(simulation.data().xipos()).map(|(mass, centre)| mass * centre[0]);
    moments.sum::<f64>() / masses.iter().sum::<f64>()
}
