//! Windows of steps in rows, in the environment's units; what is not set is padding.

use std::ops::Range;

use eva_rl_agents::model::{PreviousRows, Window};

/// One step of an episode.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Its number in the episode.
    pub timestep: usize,
    /// `[S]`.
    pub state: &'a [f32],
    /// Its image, if the windows have such.
    pub pixels: &'a [u8],
    /// `[A]`.
    pub action: &'a [f32],
    /// The action before it, `[A]`, if the windows have such; that of an episode's first step counts nowhere.
    pub previous_action: &'a [f32],
    /// What that action earned.
    pub previous_reward: f32,
    /// What the action earned.
    pub reward: f32,
    /// What was still to be earned before it.
    pub return_to_go: f32,
    /// Whether the task itself ended the episode with it.
    pub terminates: bool,
}

/// `batch` windows of `steps` steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Windows {
    batch: usize,
    steps: usize,
    observation_width: usize,
    action_width: usize,
    image_size: usize,
    pub(super) states: Vec<f32>,
    pixels: Vec<u8>,
    pub(super) actions: Vec<f32>,
    previous_actions: Vec<f32>,
    previous_rewards: Vec<f32>,
    pub(super) rewards: Vec<f32>,
    pub(super) returns_to_go: Vec<f32>,
    pub(super) timesteps: Vec<i64>,
    pub(super) mask: Vec<bool>,
    pub(super) terminates: Vec<bool>,
    totals: Vec<f32>,
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
            image_size: 0,
            states: vec![0.0; slots * observation_width],
            pixels: Vec::new(),
            actions: vec![0.0; slots * action_width],
            previous_actions: Vec::new(),
            previous_rewards: Vec::new(),
            rewards: vec![0.0; slots],
            returns_to_go: vec![0.0; slots],
            timesteps: vec![0; slots],
            mask: vec![false; slots],
            terminates: vec![false; slots],
            totals: vec![0.0; batch],
        }
    }

    /// The same, with an image of so many bytes a step.
    pub fn with_images(self, image_size: usize) -> Self {
        let pixels = vec![0; self.batch * self.steps * image_size];
        Self { image_size, pixels, ..self }
    }

    /// The same, with what came before each step where `previous` is set.
    pub fn with_previous(self, previous: bool) -> Self {
        let slots = if previous { self.batch * self.steps } else { 0 };
        let actions = vec![0.0; slots * self.action_width];
        Self { previous_actions: actions, previous_rewards: vec![0.0; slots], ..self }
    }

    /// Puts a step into a window's slot, counted from the left.
    pub fn set(&mut self, window: usize, slot: usize, step: &Step) {
        let row = window * self.steps + slot;
        self.states[row * self.observation_width..][..self.observation_width].copy_from_slice(step.state);
        self.pixels[row * self.image_size..][..self.image_size].copy_from_slice(step.pixels);
        self.actions[row * self.action_width..][..self.action_width].copy_from_slice(step.action);
        if !self.previous_rewards.is_empty() {
            self.previous_actions[row * self.action_width..][..self.action_width]
                .copy_from_slice(step.previous_action);
            self.previous_rewards[row] = step.previous_reward;
        }
        self.rewards[row] = step.reward;
        self.returns_to_go[row] = step.return_to_go;
        self.timesteps[row] = step.timestep as i64;
        self.mask[row] = true;
        self.terminates[row] = step.terminates;
    }

    /// How many windows there are.
    pub fn count(&self) -> usize {
        self.batch
    }

    /// These windows alone.
    pub fn part(&self, windows: Range<usize>) -> Self {
        fn rows<T: Clone>(all: &[T], windows: &Range<usize>, batch: usize) -> Vec<T> {
            let each = all.len() / batch; // nothing where there is nothing
            all[windows.start * each..windows.end * each].to_vec()
        }
        let batch = self.batch;
        Self {
            batch: windows.len(),
            steps: self.steps,
            observation_width: self.observation_width,
            action_width: self.action_width,
            image_size: self.image_size,
            states: rows(&self.states, &windows, batch),
            pixels: rows(&self.pixels, &windows, batch),
            actions: rows(&self.actions, &windows, batch),
            previous_actions: rows(&self.previous_actions, &windows, batch),
            previous_rewards: rows(&self.previous_rewards, &windows, batch),
            rewards: rows(&self.rewards, &windows, batch),
            returns_to_go: rows(&self.returns_to_go, &windows, batch),
            timesteps: rows(&self.timesteps, &windows, batch),
            mask: rows(&self.mask, &windows, batch),
            terminates: rows(&self.terminates, &windows, batch),
            totals: rows(&self.totals, &windows, batch),
        }
    }

    /// Widths of a step's observation and action.
    pub(super) fn widths(&self) -> (usize, usize) {
        (self.observation_width, self.action_width)
    }

    /// Says what the whole episode of a window earned.
    pub(super) fn set_total(&mut self, window: usize, total: f32) {
        self.totals[window] = total;
    }

    /// The same windows as if their episodes had been played with the target return `target`, instead of what
    /// they did earn; `capped` is what the policy is told of a return-to-go.
    pub fn conditioned_on(mut self, target: f32, capped: impl Fn(f32) -> f32) -> Self {
        for (returns, total) in self.returns_to_go.chunks_mut(self.steps).zip(&self.totals) {
            returns.iter_mut().for_each(|to_go| *to_go = capped(*to_go + (target - total)));
        }
        self
    }

    /// `[B·T]`, what each step's action earned, in the environment's units.
    pub fn rewards(&self) -> &[f32] {
        &self.rewards
    }

    /// `[B·T]`, whether the task itself ended the episode with the step.
    pub fn terminates(&self) -> &[bool] {
        &self.terminates
    }

    /// `[B·T]`.
    pub fn timesteps(&self) -> &[i64] {
        &self.timesteps
    }

    /// The rows, for the policy to read.
    pub fn view(&self) -> Window<'_> {
        Window {
            batch: self.batch,
            steps: self.steps,
            states: &self.states,
            pixels: &self.pixels,
            actions: &self.actions,
            rewards: &self.rewards,
            previous: (!self.previous_rewards.is_empty())
                .then_some(PreviousRows { actions: &self.previous_actions, rewards: &self.previous_rewards }),
            returns_to_go: &self.returns_to_go,
            timesteps: &self.timesteps,
            mask: &self.mask,
        }
    }
}
