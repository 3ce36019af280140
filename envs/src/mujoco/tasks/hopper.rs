//! Hopper-v5: a leg with a foot, in a plane, that hops forward.
//!
//! A step earns its speed and a bonus for being upright, less the cost of its controls; falling ends
//! the episode.

use rand::RngCore;

use super::hopper_gait::HOPPER;
use crate::core::error::EnvError;
use crate::core::kwargs::KwargReader;
use crate::core::spec::ReferenceScores;
use crate::mujoco::engine::formulas::{add_uniform, control_cost, within};
use crate::mujoco::engine::gait::Gait;
use crate::mujoco::engine::simulation::Simulation;
use crate::mujoco::engine::task::{ModelFacts, Rules};
use crate::mujoco::engine::view::Camera;

/// Positions are x, height, angle of the torso, and three joints.
#[derive(Clone, Debug)]
pub struct Hopper {
    forward_reward_weight: f64,
    ctrl_cost_weight: f64,
    healthy_reward: f64,
    terminate_when_unhealthy: bool,
    healthy_state_range: (f64, f64),
    healthy_z_range: (f64, f64),
    healthy_angle_range: (f64, f64),
    reset_noise_scale: f64,
    exclude_current_positions_from_observation: bool,
}

impl Hopper {
    fn is_healthy(&self, simulation: &Simulation) -> bool {
        let (qpos, qvel) = (simulation.qpos(), simulation.qvel());
        let mut state = qpos[2..].iter().chain(qvel);
        state.all(|value| within(*value, self.healthy_state_range))
            && within(qpos[1], self.healthy_z_range)
            && within(qpos[2], self.healthy_angle_range)
    }
}

impl Rules for Hopper {
    const FACTS: ModelFacts = ModelFacts {
        id: "Hopper-v5",
        xml_file: "hopper.xml",
        frame_skip: 4,
        max_episode_steps: 1000,
        reward_threshold: Some(3800.0),
        reference: Some(ReferenceScores::agent(-20.272305, 3234.3)),
        camera: Camera {
            follows: Some(1),
            lookat: [0.0, 0.0, 0.75],
            distance: 3.4,
            azimuth: 90.0,
            elevation: -8.0,
        },
    };

    const GAIT: Option<Gait> = Some(HOPPER);

    fn from_kwargs(kwargs: &mut KwargReader, simulation: &Simulation) -> Result<Self, EnvError> {
        simulation.has_at_least(3, 1)?;
        Ok(Self {
            forward_reward_weight: kwargs.number("forward_reward_weight", 1.0)?,
            ctrl_cost_weight: kwargs.number("ctrl_cost_weight", 1e-3)?,
            healthy_reward: kwargs.number("healthy_reward", 1.0)?,
            terminate_when_unhealthy: kwargs.boolean("terminate_when_unhealthy", true)?,
            healthy_state_range: kwargs.range("healthy_state_range", (-100.0, 100.0))?,
            healthy_z_range: kwargs.range("healthy_z_range", (0.7, f64::INFINITY))?,
            healthy_angle_range: kwargs.range("healthy_angle_range", (-0.2, 0.2))?,
            reset_noise_scale: kwargs.size("reset_noise_scale", 5e-3)?,
            exclude_current_positions_from_observation: kwargs
                .boolean("exclude_current_positions_from_observation", true)?,
        })
    }

    fn start(&self, simulation: &mut Simulation, rng: &mut dyn RngCore) {
        add_uniform(simulation.qpos_mut(), self.reset_noise_scale, rng);
        add_uniform(simulation.qvel_mut(), self.reset_noise_scale, rng);
    }

    fn observe(&self, simulation: &Simulation, shown: &mut Vec<f64>) {
        let hidden = usize::from(self.exclude_current_positions_from_observation);
        shown.extend(&simulation.qpos()[hidden..]);
        shown.extend(simulation.qvel().iter().map(|value| value.clamp(-10.0, 10.0)));
    }

    fn step(&self, simulation: &mut Simulation, action: &[f32]) -> (f64, bool) {
        let before = simulation.qpos()[0];
        simulation.step(action);
        let velocity = (simulation.qpos()[0] - before) / simulation.step_secs();

        let healthy = self.is_healthy(simulation);
        let forward_reward = self.forward_reward_weight * velocity;
        let healthy_reward = if healthy { self.healthy_reward } else { 0.0 };
        let reward = forward_reward + healthy_reward - control_cost(self.ctrl_cost_weight, action);
        (reward, !healthy && self.terminate_when_unhealthy)
    }
}
