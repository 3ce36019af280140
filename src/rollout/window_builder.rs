//! Between live episodes and a policy: the steps that it reads, and the actions that it chose.

use eva_rl_agents::model::{Conditioning, Inputs};
use eva_rl_envs::ActionSpace;
use tch::{Device, Kind, Tensor};

use super::actor::{ActiveEpisode, idle_actions, row_of};
use crate::data::{Step, Windows};
use crate::support::errors::InputError;

/// How a policy reads its environment, and what it is conditioned on.
pub struct WindowBuilder {
    /// The policy's own numbers.
    pub conditioning: Conditioning,
    /// The return-to-go at the start of an episode.
    pub target_return: f32,
    /// The environment's actions.
    pub space: ActionSpace,
}

impl WindowBuilder {
    /// The same for another thread.
    pub fn shallow_clone(&self) -> Self {
        let (conditioning, space) = (self.conditioning.shallow_clone(), self.space.clone());
        Self { conditioning, space, ..*self }
    }

    /// The windows of all live episodes, padded to the longest of them.
    pub fn whole_windows(&self, live: &[ActiveEpisode]) -> Inputs {
        self.inputs(live.iter(), live.len(), self.longest(live))
    }

    /// Steps of the longest window of all live episodes.
    pub fn longest(&self, live: &[ActiveEpisode]) -> usize {
        let seen = live.iter().map(|episode| episode.earned.len()).max().unwrap_or(0);
        self.steps_of(seen)
    }

    /// Steps of a window of an episode that has shown `seen` states.
    pub fn steps_of(&self, seen: usize) -> usize {
        let longest = self.conditioning.context_length;
        if self.conditioning.pads_windows { longest } else { seen.min(longest) }
    }

    /// The returns-to-go of an episode's last `steps` steps, as the policy is told them.
    fn returns_to_go(&self, earned: &[f32], steps: usize) -> Vec<f32> {
        let later = earned.len().saturating_sub(steps);
        if !self.conditioning.returns_never_rise {
            let to_go =
                earned[later..].iter().map(|earned| self.conditioning.capped(self.target_return - earned));
            return to_go.collect();
        }
        let mut to_go = self.target_return;
        let mut all = vec![to_go];
        for pair in earned.windows(2) {
            to_go = (to_go - (pair[1] - pair[0])).min(self.target_return);
            all.push(to_go);
        }
        all.drain(..later);
        all.into_iter().map(|to_go| self.conditioning.capped(to_go)).collect()
    }

    /// The last `steps` steps of `batch` episodes as the policy reads them; the action still to be chosen is
    /// an idle one.
    pub fn inputs<'l>(
        &self,
        live: impl Iterator<Item = &'l ActiveEpisode>,
        batch: usize,
        steps: usize,
    ) -> Inputs {
        let windows = self.windows(live, batch, steps, self.conditioning.pixels());
        self.conditioning.inputs(&windows.view())
    }

    /// The same of episodes whose images are embedded: `[B, T, D]`.
    pub fn inputs_of<'l>(
        &self,
        live: impl Iterator<Item = &'l ActiveEpisode>,
        batch: usize,
        steps: usize,
        images: Tensor,
    ) -> Inputs {
        let windows = self.windows(live, batch, steps, 0);
        self.conditioning.inputs_of(&windows.view(), Some(images))
    }

    /// Refuses episodes that begin with a text that the policy cannot read whole.
    pub fn check_texts(&self, live: &[ActiveEpisode]) -> Result<(), InputError> {
        let Some(reading) = self.conditioning.text_reading() else { return Ok(()) };
        for episode in live.iter().filter(|episode| episode.earned.len() == 1) {
            let row = episode.observation(self.conditioning.row_width());
            let refused = |unknown| {
                InputError(format!("the environment says what the policy does not know: {unknown}"))
            };
            reading.check(&reading.place().text(&row)).map_err(refused)?;
        }
        Ok(())
    }

    /// The latest image of each of these episodes: `[R, C, H, W]`.
    pub fn latest_images(&self, live: &[ActiveEpisode]) -> Tensor {
        let shape = self.conditioning.image_shape().expect("the policy reads images");
        let mut pixels = Vec::with_capacity(live.len() * self.conditioning.pixels());
        for episode in live {
            pixels.extend_from_slice(&episode.image());
        }
        Tensor::from_slice(&pixels).view(&*[&[live.len() as i64], shape.as_slice()].concat())
    }

    /// The last `steps` steps of `batch` episodes, with images of so many bytes.
    fn windows<'l>(
        &self,
        live: impl Iterator<Item = &'l ActiveEpisode>,
        batch: usize,
        steps: usize,
        image_size: usize,
    ) -> Windows {
        let (action_width, idle) = (self.space.width(), idle_actions(&self.space, 1));
        let state_width = self.conditioning.row_width();
        let mut windows = Windows::new(batch, steps, state_width, action_width).with_images(image_size);
        for (row, ActiveEpisode { trajectory, earned, .. }) in live.enumerate() {
            let seen = earned.len(); // states, the latest included
            let first = seen.saturating_sub(steps);
            for (timestep, to_go) in (first..seen).zip(self.returns_to_go(earned, steps)) {
                let chosen = timestep + 1 < seen; // the latest state's action is still to be
                let action = chosen.then(|| trajectory.actions.row(timestep, action_width));
                let step = Step {
                    timestep,
                    state: &trajectory.observations.row(timestep, state_width),
                    pixels: &trajectory.images.rows(timestep..timestep + 1)[..image_size],
                    action: action.as_deref().unwrap_or(&idle),
                    previous_action: &[],
                    previous_reward: 0.0,
                    reward: trajectory.rewards.get(timestep).copied().unwrap_or(0.0),
                    return_to_go: to_go,
                    terminates: false,
                };
                windows.set(row, steps - (seen - timestep), &step);
            }
        }
        windows
    }

    /// The policy's choices, `[B, A]` in its own units or `[B, 1]` indices, as the environment's actions, a row each.
    pub fn in_environment(&self, chosen: &Tensor) -> Vec<f32> {
        let chosen = match self.space {
            ActionSpace::Discrete { .. } | ActionSpace::MultiDiscrete { .. } => chosen.shallow_clone(),
            ActionSpace::Box { .. } => self.conditioning.to_environment(chosen),
        };
        Vec::try_from(chosen.flatten(0, -1).to_kind(Kind::Float).to_device(Device::Cpu))
            .expect("actions are f32")
    }

    /// Writes such rows into those of the live episodes, within the environment's bounds.
    pub fn write(&self, chosen: &[f32], live: &[ActiveEpisode], actions: &mut [f32]) {
        for (episode, action) in live.iter().zip(chosen.chunks(self.space.width())) {
            row_of(actions, &self.space, episode.env).copy_from_slice(action);
        }
        clip(actions, &self.space);
    }
}

/// Keeps actions within the environment's bounds, which rounding in the map to them must not leave either.
pub(super) fn clip(actions: &mut [f32], space: &ActionSpace) {
    if let ActionSpace::Box { low, high } = space {
        for row in actions.chunks_mut(low.len()) {
            for ((action, low), high) in row.iter_mut().zip(low).zip(high) {
                *action = action.clamp(*low, *high);
            }
        }
    }
}
