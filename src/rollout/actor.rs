//! What acts, and what it sees of the episodes being played.

use std::borrow::Cow;

use eva_rl_envs::ActionSpace;
use rand_chacha::ChaCha8Rng;

use crate::data::Trajectory;

/// An episode being played: what an actor may look at.
#[derive(Debug)]
pub struct ActiveEpisode {
    /// The environment's row.
    pub env: usize,
    /// Its number among the episodes that are played.
    pub number: usize,
    /// What has happened; one observation more than actions.
    pub trajectory: Trajectory,
    /// Sum of the rewards so far, before each step: one more than rewards.
    pub earned: Vec<f32>,
    /// What an expert of the environment's own would do now; empty where it has none.
    pub expert_action: Vec<f32>,
    /// The episode's own noise, so that it does not depend on its neighbours.
    pub noise: ChaCha8Rng,
}

impl ActiveEpisode {
    /// The latest observation.
    pub fn observation(&self, width: usize) -> Vec<f32> {
        self.trajectory.observations.row(self.trajectory.len(), width).into_owned()
    }

    /// The image of the latest observation, channels first; empty where the environment shows none.
    pub fn image(&self) -> Cow<'_, [u8]> {
        let latest = self.trajectory.len();
        self.trajectory.images.rows(latest..latest + 1)
    }
}

/// Anything that chooses actions.
pub trait Actor {
    /// Writes the action of every live episode into its environment's row of `actions`.
    ///
    /// An episode's actions are chosen one after the other, from its first on.
    fn act(&mut self, live: &mut [ActiveEpisode], actions: &mut [f32]) -> anyhow::Result<()>;

    /// Another that acts in the same way, for another thread; none where there is only one.
    fn clone_for_thread(&self) -> Option<Box<dyn Actor + Send>>;
}

impl<A: Actor + ?Sized> Actor for &mut A {
    fn act(&mut self, live: &mut [ActiveEpisode], actions: &mut [f32]) -> anyhow::Result<()> {
        (**self).act(live, actions)
    }

    fn clone_for_thread(&self) -> Option<Box<dyn Actor + Send>> {
        (**self).clone_for_thread()
    }
}

impl Actor for Box<dyn Actor + Send> {
    fn act(&mut self, live: &mut [ActiveEpisode], actions: &mut [f32]) -> anyhow::Result<()> {
        (**self).act(live, actions)
    }

    fn clone_for_thread(&self) -> Option<Box<dyn Actor + Send>> {
        (**self).clone_for_thread()
    }
}

/// An action for environments whose episodes nobody looks at.
pub(super) fn idle_actions(space: &ActionSpace, count: usize) -> Vec<f32> {
    match space {
        ActionSpace::Discrete { .. } | ActionSpace::MultiDiscrete { .. } => vec![0.0; count * space.width()],
        ActionSpace::Box { low, high } => {
            let middle = low.iter().zip(high).map(|(low, high)| (low + high) / 2.0);
            middle.collect::<Vec<f32>>().repeat(count)
        }
    }
}

/// The row of one environment.
pub(super) fn row_of<'a>(actions: &'a mut [f32], space: &ActionSpace, env: usize) -> &'a mut [f32] {
    let width = space.width();
    &mut actions[env * width..][..width]
}
