//! Ant-v5: a ball on four legs that walks along x.
//!
//! A step earns its speed and a bonus for being healthy, less the costs of its controls and of what
//! presses on its bodies; rising or falling too far ends the episode.

use rand::RngCore;
use serde_json::Value;

use crate::core::error::EnvError;
use crate::core::kwargs::KwargReader;
use crate::core::spec::ReferenceScores;
use crate::mujoco::engine::formulas::{add_normal, add_uniform, control_cost};
use crate::mujoco::engine::simulation::Simulation;
use crate::mujoco::engine::sums::sum_of_squares;
use crate::mujoco::engine::task::{ModelFacts, Rules};
use crate::mujoco::engine::view::Camera;

/// Positions are a place and a quaternion, and eight joints.
#[derive(Clone, Debug)]
pub struct Ant {
    forward_reward_weight: f64,
    ctrl_cost_weight: f64,
    contact_cost_weight: f64,
    healthy_reward: f64,
    /// Number of the body whose speed is paid for.
    main_body: usize,
    terminate_when_unhealthy: bool,
    healthy_z_range: (f64, f64),
    contact_force_range: (f64, f64),
    reset_noise_scale: f64,
    exclude_current_positions_from_observation: bool,
    include_cfrc_ext_in_observation: bool,
}

impl Ant {
    /// What presses on each body, in three directions and around three axes, cut to its range.
    fn contact_forces(&self, simulation: &Simulation) -> impl ExactSizeIterator<Item = f64> {
        let (low, high) = self.contact_force_range;
        simulation.data().cfrc_ext().as_flattened().iter().map(move |force| force.clamp(low, high))
    }

    fn is_healthy(&self, simulation: &Simulation) -> bool {
        let (qpos, qvel) = (simulation.qpos(), simulation.qvel());
        let (low, high) = self.healthy_z_range;
        qpos.iter().chain(qvel).all(|value| value.is_finite()) && low <= qpos[2] && qpos[2] <= high
    }
}

impl Rules for Ant {
    const FACTS: ModelFacts = ModelFacts {
        id: "Ant-v5",
        xml_file: "ant.xml",
        frame_skip: 5,
        max_episode_steps: 1000,
        reward_threshold: Some(6000.0),
        reference: Some(ReferenceScores::agent(-325.6, 3879.7)),
        camera: Camera {
            follows: Some(1),
            lookat: [0.0, 0.0, 0.3],
            distance: 3.8,
            azimuth: 90.0,
            elevation: -25.0,
        },
    };

    fn from_kwargs(kwargs: &mut KwargReader, simulation: &Simulation) -> Result<Self, EnvError> {
        simulation.has_at_least(3, 1)?;
        Ok(Self {
            forward_reward_weight: kwargs.number("forward_reward_weight", 1.0)?,
            ctrl_cost_weight: kwargs.number("ctrl_cost_weight", 0.5)?,
            contact_cost_weight: kwargs.number("contact_cost_weight", 5e-4)?,
            healthy_reward: kwargs.number("healthy_reward", 1.0)?,
            main_body: main_body(kwargs, simulation)?,
            terminate_when_unhealthy: kwargs.boolean("terminate_when_unhealthy", true)?,
            healthy_z_range: kwargs.range("healthy_z_range", (0.2, 1.0))?,
            contact_force_range: kwargs.range("contact_force_range", (-1.0, 1.0))?,
            reset_noise_scale: kwargs.size("reset_noise_scale", 0.1)?,
            exclude_current_positions_from_observation: kwargs
                .boolean("exclude_current_positions_from_observation", true)?,
            include_cfrc_ext_in_observation: kwargs.boolean("include_cfrc_ext_in_observation", true)?,
        })
    }

    fn start(&self, simulation: &mut Simulation, rng: &mut dyn RngCore) {
        add_uniform(simulation.qpos_mut(), self.reset_noise_scale, rng);
        add_normal(simulation.qvel_mut(), self.reset_noise_scale, rng);
    }

    fn observe(&self, simulation: &Simulation, shown: &mut Vec<f64>) {
        let hidden = 2 * usize::from(self.exclude_current_positions_from_observation);
        shown.extend(&simulation.qpos()[hidden..]);
        shown.extend(simulation.qvel());
        if self.include_cfrc_ext_in_observation {
            // Nothing presses on the world, which is the first body.
            shown.extend(self.contact_forces(simulation).skip(6));
        }
    }

    fn step(&self, simulation: &mut Simulation, action: &[f32]) -> (f64, bool) {
        let before = simulation.data().xpos()[self.main_body][0];
        simulation.step(action);
        simulation.update_contact_forces();
        let velocity = (simulation.data().xpos()[self.main_body][0] - before) / simulation.step_secs();

        let healthy = self.is_healthy(simulation);
        let forward_reward = velocity * self.forward_reward_weight;
        let healthy_reward = if healthy { self.healthy_reward } else { 0.0 };
        let contact_cost = self.contact_cost_weight * sum_of_squares(self.contact_forces(simulation));
        let costs = control_cost(self.ctrl_cost_weight, action) + contact_cost;
        (forward_reward + healthy_reward - costs, !healthy && self.terminate_when_unhealthy)
    }
}

/// A body by its number or its name.
fn main_body(kwargs: &mut KwargReader, simulation: &Simulation) -> Result<usize, EnvError> {
    let convert = |value: &Value| (value.is_u64() || value.is_string()).then(|| value.clone());
    let value = kwargs.read("main_body", Value::from(1), "a body's number or name", convert)?;
    match value.as_str() {
        Some(name) => simulation.body(name),
        None => {
            let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
            let bodies = simulation.data().xpos().len();
            let found = number.filter(|number| *number < bodies);
            found.ok_or_else(|| {
                kwargs.refused("main_body", "the number of one of the model's bodies, or its name")
            })
        }
    }
}
