//! Pusher-v5: an arm of seven joints that pushes a cylinder to a goal.
//!
//! A step costs the distances from the tip to the cylinder and from the cylinder to the goal, and its
//! controls; an episode never ends by itself.

use rand::{Rng, RngCore};

use crate::core::error::EnvError;
use crate::core::kwargs::KwargReader;
use crate::mujoco::engine::formulas::{add_uniform, control_cost, distance};
use crate::mujoco::engine::simulation::Simulation;
use crate::mujoco::engine::task::{ModelFacts, Rules};
use crate::mujoco::engine::view::Camera;

/// Joints of the arm.
const JOINTS: usize = 7;
/// A cylinder starts farther than this from its goal.
const CLEARANCE: f64 = 0.17;

/// Positions are the arm's joints, the cylinder's two and the goal's two.
#[derive(Clone, Debug)]
pub struct Pusher {
    reward_near_weight: f64,
    reward_dist_weight: f64,
    reward_control_weight: f64,
    tip: usize,
    object: usize,
    goal: usize,
}

impl Rules for Pusher {
    const FACTS: ModelFacts = ModelFacts {
        id: "Pusher-v5",
        xml_file: "pusher_v5.xml",
        frame_skip: 5,
        max_episode_steps: 100,
        reward_threshold: Some(0.0),
        reference: None,
        camera: Camera {
            follows: None,
            lookat: [0.35, -0.25, -0.2],
            distance: 2.2,
            azimuth: 215.0,
            elevation: -40.0,
        },
    };

    fn from_kwargs(kwargs: &mut KwargReader, simulation: &Simulation) -> Result<Self, EnvError> {
        simulation.has_at_least(JOINTS + 4, JOINTS + 4)?;
        Ok(Self {
            reward_near_weight: kwargs.number("reward_near_weight", 0.5)?,
            reward_dist_weight: kwargs.number("reward_dist_weight", 1.0)?,
            reward_control_weight: kwargs.number("reward_control_weight", 0.1)?,
            tip: simulation.body("tips_arm")?,
            object: simulation.body("object")?,
            goal: simulation.body("goal")?,
        })
    }

    fn start(&self, simulation: &mut Simulation, rng: &mut dyn RngCore) {
        // Relative to the goal, which stands at the middle.
        let cylinder = loop {
            let place: [f64; 2] = [rng.gen_range(-0.3..0.0), rng.gen_range(-0.2..0.2)];
            if place[0].hypot(place[1]) > CLEARANCE {
                break place;
            }
        };
        let qpos = simulation.qpos_mut();
        let movable = qpos.len() - 4;
        qpos[movable..].copy_from_slice(&[cylinder[0], cylinder[1], 0.0, 0.0]);
        add_uniform(simulation.qvel_mut(), 0.005, rng);
        let movable = simulation.qvel().len() - 4;
        simulation.qvel_mut()[movable..].fill(0.0);
    }

    fn observe(&self, simulation: &Simulation, shown: &mut Vec<f64>) {
        let places = simulation.data().xpos();
        shown.extend(&simulation.qpos()[..JOINTS]);
        shown.extend(&simulation.qvel()[..JOINTS]);
        shown.extend(places[self.tip]);
        shown.extend(places[self.object]);
        shown.extend(places[self.goal]);
    }

    fn step(&self, simulation: &mut Simulation, action: &[f32]) -> (f64, bool) {
        simulation.step(action);

        let places = simulation.data().xpos();
        let near = -distance(places[self.object], places[self.tip]) * self.reward_near_weight;
        let dist = -distance(places[self.object], places[self.goal]) * self.reward_dist_weight;
        (dist - control_cost(self.reward_control_weight, action) + near, false)
    }
}
