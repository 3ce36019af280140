//! A model and where it stands. Nothing of Gymnasium's rewards is known here.

use std::sync::Arc;

use mujoco_rs::wrappers::{MjData, MjModel, MjtObjBase};

use super::model;
use crate::core::error::EnvError;
use crate::core::kwargs::KwargReader;
use crate::core::spec::ActionSpace;

/// One environment's physics: its own state, and a model that it shares with its clones.
#[derive(Clone, Debug)]
pub struct Simulation {
    data: MjData<Arc<MjModel>>,
    frame_skip: u16,
    id: &'static str,
    xml_file: Arc<str>,
}

impl Simulation {
    /// Reads the kwargs `xml_file` and `frame_skip`.
    pub(super) fn from_kwargs(
        kwargs: &mut KwargReader,
        xml_file: &str,
        frame_skip: u16,
    ) -> Result<Self, EnvError> {
        let (xml_file, model) = model::load(kwargs, xml_file)?;
        let frame_skip = kwargs.count("frame_skip", frame_skip)?;
        let id = kwargs.id();
        let data = MjData::try_new(model).map_err(|error| EnvError::Model {
            id: id.to_owned(),
            xml_file: xml_file.clone(),
            problem: format!("cannot be simulated: {error}"),
        })?;
        Ok(Self { data, frame_skip, id, xml_file: xml_file.into() })
    }

    /// The refusal of a model that is not of its task.
    fn refused(&self, problem: String) -> EnvError {
        EnvError::Model { id: self.id.to_owned(), xml_file: self.xml_file.to_string(), problem }
    }

    /// Refuses a model with fewer positions and velocities than a task reads.
    pub fn has_at_least(&self, positions: usize, velocities: usize) -> Result<(), EnvError> {
        let (found, wanted) = ((self.qpos().len(), self.qvel().len()), (positions, velocities));
        if found.0 >= positions && found.1 >= velocities {
            return Ok(());
        }
        Err(self.refused(format!(
            "has {} positions and {} velocities; it must have at least {} and {}",
            found.0, found.1, wanted.0, wanted.1
        )))
    }

    /// Refuses a model of another size than a task's, whose observation has a fixed width.
    pub fn has(&self, positions: usize, velocities: usize) -> Result<(), EnvError> {
        let (found, wanted) = ((self.qpos().len(), self.qvel().len()), (positions, velocities));
        if found == wanted {
            return Ok(());
        }
        Err(self.refused(format!(
            "has {} positions and {} velocities; it must have {} and {}",
            found.0, found.1, wanted.0, wanted.1
        )))
    }

    /// The number of a body that a task knows by name.
    pub fn body(&self, name: &str) -> Result<usize, EnvError> {
        self.model()
            .name_to_id(MjtObjBase::mjOBJ_BODY, name)
            .ok_or_else(|| self.refused(format!("has no body `{name}`")))
    }

    /// A site by its number.
    pub fn has_site(&self, site: usize) -> Result<(), EnvError> {
        if site < self.data.site_xpos().len() {
            Ok(())
        } else {
            Err(self.refused(format!("has no site {site}")))
        }
    }

    /// One bound a control, as the model has them.
    pub(super) fn action_space(&self) -> Result<ActionSpace, EnvError> {
        let ranges = self.model().actuator_ctrlrange();
        if ranges.is_empty() {
            return Err(self.refused("has no actuators; it must have at least 1".to_owned()));
        }
        if let Some(actuator) = ranges.iter().position(|[low, high]| low >= high) {
            return Err(self.refused(format!("gives actuator {actuator} no range of controls; it must")));
        }
        let side = |side: usize| ranges.iter().map(|range| range[side] as f32).collect();
        Ok(ActionSpace::Box { low: side(0), high: side(1) })
    }

    /// Forgets the episode: the model's own pose, at rest.
    pub(super) fn reset(&mut self) {
        self.data.reset();
    }

    /// Derives everything else from positions and velocities that were written.
    pub(super) fn forward(&mut self) {
        self.data.forward();
    }

    /// Holds `action` for as many steps of MuJoCo's as one of the task's takes.
    pub fn step(&mut self, action: &[f32]) {
        let controls = self.data.ctrl_mut();
        assert_eq!(action.len(), controls.len(), "an action of `{}` has the wrong length", self.id);
        for (control, value) in controls.iter_mut().zip(action) {
            *control = f64::from(*value);
        }
        for _ in 0..self.frame_skip {
            self.data.step();
        }
    }

    /// Forces on bodies from contacts. MuJoCo's steps do not compute them, because they need them nowhere.
    pub fn update_contact_forces(&mut self) {
        self.data.rne_post_constraint();
    }

    /// The model, shared by all environments of a pool.
    pub fn model(&self) -> &MjModel {
        self.data.model()
    }

    /// Everything that MuJoCo knows of the moment.
    pub fn data(&self) -> &MjData<Arc<MjModel>> {
        &self.data
    }

    /// Positions of the joints.
    pub fn qpos(&self) -> &[f64] {
        self.data.qpos()
    }

    /// Velocities of the joints.
    pub fn qvel(&self) -> &[f64] {
        self.data.qvel()
    }

    /// Positions of the joints, for a start.
    pub fn qpos_mut(&mut self) -> &mut [f64] {
        self.data.qpos_mut()
    }

    /// Velocities of the joints, for a start.
    pub fn qvel_mut(&mut self) -> &mut [f64] {
        self.data.qvel_mut()
    }

    /// How long one step of MuJoCo's takes.
    pub fn timestep_secs(&self) -> f64 {
        self.model().opt().timestep
    }

    /// How long one step of the task takes.
    pub fn step_secs(&self) -> f64 {
        self.timestep_secs() * f64::from(self.frame_skip)
    }
}
