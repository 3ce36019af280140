//! What environments have shown to a policy that reads what came before a step, and what it chose itself.

use std::collections::VecDeque;

use eva_rl_agents::model::Conditioning;
use eva_rl_envs::ActionSpace;

use super::actor::ActiveEpisode;
use super::window_builder::clip;
use crate::data::{Dataset, Step, Windows};

/// Demonstrations that a policy sees before everything else.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompt {
    /// `[n, S]`.
    pub observations: Vec<f32>,
    /// `[n, A]`.
    pub actions: Vec<f32>,
    /// `[n]`.
    pub rewards: Vec<f32>,
    /// `[n]`, each step's number in its episode.
    pub timesteps: Vec<usize>,
}

impl Prompt {
    /// The episodes of a dataset, in their order.
    pub fn of(dataset: &Dataset) -> Self {
        let mut prompt = Self::default();
        for trajectory in &dataset.trajectories {
            let acted_on = trajectory.len() * dataset.observation_width; // the last observation was not
            prompt.observations.extend_from_slice(&trajectory.observations.all()[..acted_on]);
            prompt.actions.extend_from_slice(&trajectory.actions.all());
            prompt.rewards.extend_from_slice(&trajectory.rewards);
            prompt.timesteps.extend(0..trajectory.len());
        }
        prompt
    }
}

/// The latest steps of each environment.
#[derive(Debug)]
pub struct Histories {
    rows: Vec<History>,
    /// Steps that are kept of each.
    longest: usize,
    /// Whether they go on over episodes.
    spans_episodes: bool,
    observation_width: usize,
    /// Bytes of images that are kept with the rest; 0 where an encoder has them.
    image_size: usize,
    space: ActionSpace,
    /// What an environment begins with: the prompt, or nothing.
    first: History,
}

/// Those of one environment.
#[derive(Clone, Debug, Default)]
struct History {
    steps: VecDeque<SeenStep>,
    /// Steps so far, those included that are kept no longer.
    seen: usize,
    /// The episode that is being played.
    number: Option<usize>,
    /// What the policy chose last, before it was clipped to the environment's bounds.
    chosen: Vec<f32>,
}

#[derive(Clone, Debug)]
struct SeenStep {
    state: Vec<f32>,
    pixels: Vec<u8>,
    previous_action: Vec<f32>,
    previous_reward: f32,
    timestep: usize,
}

impl Histories {
    /// Nothing yet of `count` environments.
    pub fn new(count: usize, conditioning: &Conditioning, space: &ActionSpace) -> Self {
        Self {
            rows: vec![History::default(); count],
            longest: conditioning.context_length.max(2),
            spans_episodes: conditioning.spans_episodes,
            observation_width: conditioning.row_width(),
            image_size: conditioning.symbols(),
            space: space.clone(),
            first: History::default(),
        }
    }

    /// The same with demonstrations before everything else, for every environment.
    pub fn after(mut self, prompt: &Prompt) -> Self {
        let (width, action_width) = (self.observation_width, self.space.width());
        for (step, timestep) in prompt.timesteps.iter().enumerate() {
            let before = step.saturating_sub(1); // of an episode's first step, it counts nowhere
            let seen = SeenStep {
                state: prompt.observations[step * width..][..width].to_vec(),
                pixels: Vec::new(),
                previous_action: prompt.actions[before * action_width..][..action_width].to_vec(),
                previous_reward: prompt.rewards[before],
                timestep: *timestep,
            };
            self.first.push(self.longest, seen);
        }
        self.rows.fill(self.first.clone());
        self
    }

    /// Takes in the latest observation of every live episode. What led to it is what the policy has chosen, as it chose
    /// it, unless something else was done than that.
    pub fn observe(&mut self, live: &[ActiveEpisode]) {
        let action_width = self.space.width();
        for episode in live {
            let (trajectory, history) = (&episode.trajectory, &mut self.rows[episode.env]);
            let timestep = trajectory.len();
            let is_new = timestep == 0;
            // One that is played again has lost its worker, and what it had shown counts nowhere.
            if is_new && (!self.spans_episodes || history.number == Some(episode.number)) {
                history.clone_from(&self.first);
            }
            history.number = Some(episode.number);
            let (previous_action, previous_reward) = match timestep.checked_sub(1) {
                None => (vec![0.0; action_width], 0.0),
                Some(before) => {
                    let done = trajectory.actions.row(before, action_width);
                    let mut clipped = history.chosen.clone();
                    clip(&mut clipped, &self.space);
                    let action = if clipped == *done { history.chosen.clone() } else { done.into_owned() };
                    (action, trajectory.rewards[before])
                }
            };
            let state = episode.observation(self.observation_width);
            let pixels = episode.image()[..self.image_size].to_vec();
            history
                .push(self.longest, SeenStep { state, pixels, previous_action, previous_reward, timestep });
        }
    }

    /// Keeps what the policy chose for every live episode, a row each, in the environment's units.
    pub fn keep_chosen(&mut self, live: &[ActiveEpisode], chosen: &[f32]) {
        for (episode, action) in live.iter().zip(chosen.chunks(self.space.width())) {
            self.rows[episode.env].chosen = action.to_vec();
        }
    }

    /// Steps that environment `env` has shown.
    pub fn seen(&self, env: usize) -> usize {
        self.rows[env].seen
    }

    /// What the policy chose last in environment `env`.
    pub fn chosen(&self, env: usize) -> &[f32] {
        &self.rows[env].chosen
    }

    /// The last `steps` steps of these environments, without images that an encoder reads; the actions still to be chosen are zeros.
    pub fn windows(&self, envs: &[usize], steps: usize) -> Windows {
        let none = vec![0.0; self.space.width()];
        let windows = Windows::new(envs.len(), steps, self.observation_width, none.len());
        let mut windows = windows.with_images(self.image_size).with_previous(true);
        for (row, env) in envs.iter().enumerate() {
            let kept = &self.rows[*env].steps;
            let count = kept.len().min(steps);
            let shown = kept.iter().skip(kept.len() - count);
            let after = shown.clone().skip(1).map(|next| &next.previous_action).chain([&none]);
            for (slot, (seen, action)) in shown.zip(after).enumerate() {
                let step = Step {
                    timestep: seen.timestep,
                    state: &seen.state,
                    pixels: &seen.pixels,
                    action,
                    previous_action: &seen.previous_action,
                    previous_reward: seen.previous_reward,
                    reward: 0.0,
                    return_to_go: 0.0,
                    terminates: false,
                };
                windows.set(row, steps - count + slot, &step);
            }
        }
        windows
    }
}

impl History {
    fn push(&mut self, longest: usize, step: SeenStep) {
        self.seen += 1;
        self.steps.push_back(step);
        if self.steps.len() > longest {
            self.steps.pop_front();
        }
    }
}
