//! Scripted controllers: written by hand or found by search, good enough to be worth cloning, fast enough for any
//! amount of data. Each looks at the observation alone, so one serves every environment of a pool.

use super::error::EnvError;

/// Chooses an action for an observation.
pub trait Controller: Send {
    /// Writes the action into the caller's row.
    fn act(&mut self, observation: &[f32], action: &mut [f32]);
}

/// Chooses actions for a batch. Fallible, because it may live in a worker process.
pub trait VecController: Send {
    /// Writes an action for each of `rows` observations, from whichever environments they are.
    ///
    /// `pixels` has a row of bytes for each, of the image that the contract keeps apart; it is empty where there is none.
    fn act_rows(
        &mut self,
        rows: usize,
        observations: &[f32],
        pixels: &[u8],
        actions: &mut [f32],
    ) -> Result<(), EnvError>;
}

impl<C: Controller + ?Sized> Controller for Box<C> {
    fn act(&mut self, observation: &[f32], action: &mut [f32]) {
        (**self).act(observation, action);
    }
}

impl<C: Controller> VecController for C {
    fn act_rows(
        &mut self,
        rows: usize,
        observations: &[f32],
        _: &[u8],
        actions: &mut [f32],
    ) -> Result<(), EnvError> {
        let (wide, high) = (observations.len() / rows, actions.len() / rows);
        for (observation, action) in observations.chunks_exact(wide).zip(actions.chunks_exact_mut(high)) {
            self.act(observation, action);
        }
        Ok(())
    }
}
