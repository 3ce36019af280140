//! InvertedDoublePendulum-v5: a cart on a rail that keeps two poles upright, one on the other.
//!
//! A step earns a bonus, less the distance of the tip from its highest place and the poles' speeds; an
//! episode ends once the tip is no higher than 1.

use rand::RngCore;

use crate::core::error::EnvError;
use crate::core::kwargs::KwargReader;
use crate::mujoco::engine::formulas::{add_normal, add_uniform};
use crate::mujoco::engine::simulation::Simulation;
use crate::mujoco::engine::task::{ModelFacts, Rules};
use crate::mujoco::engine::view::Camera;
use crate::render::trig::sin_cos;

/// The model's site at the end of the second pole.
const TIP: usize = 0;

/// Positions are the cart's and both poles'.
#[derive(Clone, Debug)]
pub struct InvertedDoublePendulum {
    healthy_reward: f64,
    reset_noise_scale: f64,
}

impl Rules for InvertedDoublePendulum {
    const FACTS: ModelFacts = ModelFacts {
        id: "InvertedDoublePendulum-v5",
        xml_file: "inverted_double_pendulum.xml",
        frame_skip: 5,
        max_episode_steps: 1000,
        reward_threshold: Some(9100.0),
        reference: None,
        camera: Camera {
            follows: None,
            lookat: [0.0, 0.0, 0.5],
            distance: 4.0,
            azimuth: 90.0,
            elevation: -5.0,
        },
    };

    fn from_kwargs(kwargs: &mut KwargReader, simulation: &Simulation) -> Result<Self, EnvError> {
        simulation.has(3, 3)?;
        simulation.has_site(TIP)?;
        Ok(Self {
            healthy_reward: kwargs.number("healthy_reward", 10.0)?,
            reset_noise_scale: kwargs.size("reset_noise_scale", 0.1)?,
        })
    }

    fn start(&self, simulation: &mut Simulation, rng: &mut dyn RngCore) {
        add_uniform(simulation.qpos_mut(), self.reset_noise_scale, rng);
        add_normal(simulation.qvel_mut(), self.reset_noise_scale, rng);
    }

    fn observe(&self, simulation: &Simulation, shown: &mut Vec<f64>) {
        let (qpos, qvel) = (simulation.qpos(), simulation.qvel());
        let angles = qpos[1..].iter().map(|angle| sin_cos(*angle));
        shown.push(qpos[0]);
        shown.extend(angles.clone().map(|(sin, _)| sin));
        shown.extend(angles.map(|(_, cos)| cos));
        shown.extend(qvel.iter().map(|value| value.clamp(-10.0, 10.0)));
        shown.push(simulation.data().qfrc_constraint()[0].clamp(-10.0, 10.0));
    }

    fn step(&self, simulation: &mut Simulation, action: &[f32]) -> (f64, bool) {
        simulation.step(action);

        let [x, _, height] = simulation.data().site_xpos()[TIP];
        let fallen = height <= 1.0;
        let bonus = if fallen { 0.0 } else { self.healthy_reward };
        let distance_penalty = 0.01 * (x * x) + (height - 2.0) * (height - 2.0);
        let [first, second] = [simulation.qvel()[1], simulation.qvel()[2]];
        let velocity_penalty = 1e-3 * (first * first) + 5e-3 * (second * second);
        (bonus - distance_penalty - velocity_penalty, fallen)
    }
}
