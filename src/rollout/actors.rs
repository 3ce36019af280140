//! Actors that are no policy, and noise on top of any actor.

use eva_rl_envs::{ActionSpace, VecController};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::actor::{ActiveEpisode, Actor, row_of};

/// Uniformly random play.
#[derive(Clone, Debug)]
pub struct RandomActor {
    /// The environment's actions.
    pub space: ActionSpace,
}

impl Actor for RandomActor {
    fn act(&mut self, live: &mut [ActiveEpisode], actions: &mut [f32]) -> anyhow::Result<()> {
        for episode in live {
            let row = row_of(actions, &self.space, episode.env);
            draw_uniform(&self.space, &mut episode.noise, row);
        }
        Ok(())
    }

    fn clone_for_thread(&self) -> Option<Box<dyn Actor + Send>> {
        Some(Box::new(self.clone()))
    }
}

/// A scripted controller, which looks at observations alone.
pub struct ScriptedActor {
    /// The controller.
    pub controller: Box<dyn VecController>,
    /// The environment's actions.
    pub space: ActionSpace,
    /// Numbers in an observation.
    pub observation_width: usize,
}

impl Actor for ScriptedActor {
    fn act(&mut self, live: &mut [ActiveEpisode], actions: &mut [f32]) -> anyhow::Result<()> {
        let width = self.observation_width;
        let observations: Vec<f32> = live.iter().flat_map(|episode| episode.observation(width)).collect();
        let mut pixels = Vec::new();
        for episode in live.iter() {
            pixels.extend_from_slice(&episode.image());
        }
        let mut chosen = vec![0.0; live.len() * self.space.width()];
        self.controller.act_rows(live.len(), &observations, &pixels, &mut chosen)?;
        for (episode, action) in live.iter().zip(chosen.chunks(self.space.width())) {
            row_of(actions, &self.space, episode.env).copy_from_slice(action);
        }
        Ok(())
    }

    fn clone_for_thread(&self) -> Option<Box<dyn Actor + Send>> {
        None // a controller may be a process
    }
}

/// An expert of the environment's own.
#[derive(Clone, Debug)]
pub struct ExpertActor {
    /// The environment's actions.
    pub space: ActionSpace,
}

impl Actor for ExpertActor {
    fn act(&mut self, live: &mut [ActiveEpisode], actions: &mut [f32]) -> anyhow::Result<()> {
        for episode in live {
            row_of(actions, &self.space, episode.env).copy_from_slice(&episode.expert_action);
        }
        Ok(())
    }

    fn clone_for_thread(&self) -> Option<Box<dyn Actor + Send>> {
        Some(Box::new(self.clone()))
    }
}

/// Another actor, disturbed: normal noise of so many half-ranges, or with that probability a random
/// action where actions are discrete, each of several on its own.
pub struct NoisyActor<A> {
    /// Who is disturbed.
    pub actor: A,
    /// The environment's actions.
    pub space: ActionSpace,
    /// How much; episodes take them in turn, by their number. At least one.
    pub scales: Vec<f32>,
}

impl<A: Actor> Actor for NoisyActor<A> {
    fn act(&mut self, live: &mut [ActiveEpisode], actions: &mut [f32]) -> anyhow::Result<()> {
        self.actor.act(live, actions)?;
        for episode in live {
            let row = row_of(actions, &self.space, episode.env);
            let scale = self.scales[episode.number % self.scales.len()];
            match &self.space {
                ActionSpace::Discrete { .. } => {
                    if episode.noise.r#gen::<f32>() < scale {
                        draw_uniform(&self.space, &mut episode.noise, row);
                    }
                }
                ActionSpace::MultiDiscrete { counts, .. } => {
                    for (action, count) in row.iter_mut().zip(counts) {
                        if episode.noise.r#gen::<f32>() < scale {
                            *action = episode.noise.gen_range(0..*count) as f32;
                        }
                    }
                }
                ActionSpace::Box { low, high } => {
                    for ((action, low), high) in row.iter_mut().zip(low).zip(high) {
                        let normal: f32 = episode.noise.sample(StandardNormal);
                        *action = (*action + scale * normal * (high - low) / 2.0).clamp(*low, *high);
                    }
                }
            }
        }
        Ok(())
    }

    fn clone_for_thread(&self) -> Option<Box<dyn Actor + Send>> {
        let actor = self.actor.clone_for_thread()?;
        Some(Box::new(NoisyActor { actor, space: self.space.clone(), scales: self.scales.clone() }))
    }
}

/// Draws an action, each as likely as any other.
pub fn draw_uniform(space: &ActionSpace, noise: &mut ChaCha8Rng, row: &mut [f32]) {
    match space {
        ActionSpace::Discrete { n, .. } => row[0] = noise.gen_range(0..*n) as f32,
        ActionSpace::MultiDiscrete { counts, .. } => {
            for (action, count) in row.iter_mut().zip(counts) {
                *action = noise.gen_range(0..*count) as f32;
            }
        }
        ActionSpace::Box { low, high } => {
            for ((action, low), high) in row.iter_mut().zip(low).zip(high) {
                *action = noise.gen_range(*low..=*high);
            }
        }
    }
}
