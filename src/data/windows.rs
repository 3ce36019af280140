//! Windows of steps in rows, in the environment's units; what is not set is padding.

use eva_rl_agents::model::Window;

/// `batch` windows of `steps` steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Windows {
    batch: usize,
    steps: usize,
    observation_width: usize,
    action_width: usize,
    pub(super) states: Vec<f32>,
    pub(super) actions: Vec<f32>,
    pub(super) returns_to_go: Vec<f32>,
    pub(super) timesteps: Vec<i64>,
    pub(super) mask: Vec<bool>,
}

impl Windows {
    /// All padding.
    pub fn new(batch: usize, steps: usize, observation_width: usize, action_width: usize) -> Self {
        let slots = batch * steps;
        Self {
            batch,
            steps,
            observation_width,
            action_width,
            states: vec![0.0; slots * observation_width],
            actions: vec![0.0; slots * action_width],
            returns_to_go: vec![0.0; slots],
            timesteps: vec![0; slots],
            mask: vec![false; slots],
        }
    }

    /// Puts an episode's step `timestep` into a window's slot, counted from the left.
    pub fn set(
        &mut self,
        window: usize,
        slot: usize,
        timestep: usize,
        state: &[f32],
        action: &[f32],
        return_to_go: f32,
    ) {
        let row = window * self.steps + slot;
        self.states[row * self.observation_width..][..self.observation_width].copy_from_slice(state);
        self.actions[row * self.action_width..][..self.action_width].copy_from_slice(action);
        self.returns_to_go[row] = return_to_go;
        self.timesteps[row] = timestep as i64;
        self.mask[row] = true;
    }

    /// The rows, for the policy to read.
    pub fn view(&self) -> Window<'_> {
        Window {
            batch: self.batch,
            steps: self.steps,
            states: &self.states,
            actions: &self.actions,
            returns_to_go: &self.returns_to_go,
            timesteps: &self.timesteps,
            mask: &self.mask,
        }
    }
}
