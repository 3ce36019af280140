//! What both humanoids show of themselves.

use super::simulation::Simulation;
use crate::core::error::EnvError;
use crate::core::kwargs::KwargReader;

/// Which of MuJoCo's quantities an observation has, beside positions and velocities.
#[derive(Clone, Debug)]
pub(in crate::mujoco) struct BodyView {
    exclude_current_positions: bool,
    include_cinert: bool,
    include_cvel: bool,
    include_qfrc_actuator: bool,
    include_cfrc_ext: bool,
}

impl BodyView {
    pub(in crate::mujoco) fn from_kwargs(kwargs: &mut KwargReader) -> Result<Self, EnvError> {
        Ok(Self {
            exclude_current_positions: kwargs.boolean("exclude_current_positions_from_observation", true)?,
            include_cinert: kwargs.boolean("include_cinert_in_observation", true)?,
            include_cvel: kwargs.boolean("include_cvel_in_observation", true)?,
            include_qfrc_actuator: kwargs.boolean("include_qfrc_actuator_in_observation", true)?,
            include_cfrc_ext: kwargs.boolean("include_cfrc_ext_in_observation", true)?,
        })
    }

    /// The world, which is the first body, and the root, which has no motors, are left out.
    pub(in crate::mujoco) fn observe(&self, simulation: &Simulation, shown: &mut Vec<f64>) {
        let data = simulation.data();
        let hidden = 2 * usize::from(self.exclude_current_positions);
        shown.extend(&simulation.qpos()[hidden..]);
        shown.extend(simulation.qvel());
        if self.include_cinert {
            shown.extend(data.cinert()[1..].as_flattened());
        }
        if self.include_cvel {
            shown.extend(data.cvel()[1..].as_flattened());
        }
        if self.include_qfrc_actuator {
            shown.extend(&data.qfrc_actuator()[6..]);
        }
        if self.include_cfrc_ext {
            shown.extend(data.cfrc_ext()[1..].as_flattened());
        }
    }
}
