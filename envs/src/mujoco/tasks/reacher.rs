//! Reacher-v5: an arm of two links, in a plane, whose tip reaches for a target.
//!
//! A step costs the distance of the tip from the target and its controls; an episode never ends by
//! itself.

use rand::{Rng, RngCore};

use crate::core::error::EnvError;
use crate::core::kwargs::KwargReader;
use crate::mujoco::engine::formulas::{add_uniform, control_cost, distance};
use crate::mujoco::engine::simulation::Simulation;
use crate::mujoco::engine::task::{ModelFacts, Rules};
use crate::mujoco::engine::view::Camera;
use crate::render::trig::sin_cos;

/// Half the side of the square in which a target is drawn, and its greatest distance from the middle.
const REACH: f64 = 0.2;

/// Positions are both joints' and the target's two.
#[derive(Clone, Debug)]
pub struct Reacher {
    reward_dist_weight: f64,
    reward_control_weight: f64,
    fingertip: usize,
    target: usize,
}

impl Rules for Reacher {
    const FACTS: ModelFacts = ModelFacts {
        id: "Reacher-v5",
        xml_file: "reacher.xml",
        frame_skip: 2,
        max_episode_steps: 50,
        reward_threshold: Some(-3.75),
        reference: None,
        camera: Camera {
            follows: None,
            lookat: [0.0, 0.0, 0.0],
            distance: 0.95,
            azimuth: 90.0,
            elevation: -70.0,
        },
    };

    fn from_kwargs(kwargs: &mut KwargReader, simulation: &Simulation) -> Result<Self, EnvError> {
        simulation.has(4, 4)?;
        Ok(Self {
            reward_dist_weight: kwargs.number("reward_dist_weight", 1.0)?,
            reward_control_weight: kwargs.number("reward_control_weight", 1.0)?,
            fingertip: simulation.body("fingertip")?,
            target: simulation.body("target")?,
        })
    }

    fn start(&self, simulation: &mut Simulation, rng: &mut dyn RngCore) {
        add_uniform(simulation.qpos_mut(), 0.1, rng);
        let goal = loop {
            let goal = [rng.gen_range(-REACH..REACH), rng.gen_range(-REACH..REACH)];
            if goal[0].hypot(goal[1]) < REACH {
                break goal;
            }
        };
        simulation.qpos_mut()[2..].copy_from_slice(&goal);
        add_uniform(simulation.qvel_mut(), 0.005, rng);
        simulation.qvel_mut()[2..].fill(0.0);
    }

    fn observe(&self, simulation: &Simulation, shown: &mut Vec<f64>) {
        let (qpos, places) = (simulation.qpos(), simulation.data().xpos());
        let [(first_sin, first_cos), (second_sin, second_cos)] = [sin_cos(qpos[0]), sin_cos(qpos[1])];
        let (tip, target) = (places[self.fingertip], places[self.target]);
        shown.extend([first_cos, second_cos, first_sin, second_sin]);
        shown.extend(&qpos[2..]);
        shown.extend(&simulation.qvel()[..2]);
        shown.extend([tip[0] - target[0], tip[1] - target[1]]);
    }

    fn step(&self, simulation: &mut Simulation, action: &[f32]) -> (f64, bool) {
        simulation.step(action);

        let places = simulation.data().xpos();
        let missed = distance(places[self.fingertip], places[self.target]);
        (-missed * self.reward_dist_weight - control_cost(self.reward_control_weight, action), false)
    }
}
