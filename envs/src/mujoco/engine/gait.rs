//! Moves MuJoCo's legs by linear feedback on everything that is shown.
//!
//! The weights come from augmented random search (Mania, Guy and Recht, arXiv 1803.07055, version V2),
//! normalisation folded in. `tools/data/search_gait.py` stops it early on purpose: these are gaits of medium quality,
//! far below what can be learned.

use crate::core::controller::Controller;

/// A linear controller of one task: `gain · observation + bias`, cut to [−1, 1].
#[derive(Clone, Copy, Debug)]
pub struct Gait {
    /// Gymnasium's id of the task that it was found in.
    pub env: &'static str,
    /// One row a motor, one number of it for each that is shown.
    pub gain: &'static [&'static [f32]],
    /// One number a motor.
    pub bias: &'static [f32],
}

impl Controller for Gait {
    fn act(&mut self, observation: &[f32], action: &mut [f32]) {
        let width = self.gain[0].len();
        assert_eq!(observation.len(), width, "`{}` shows another count of numbers", self.env);
        for ((action, gain), bias) in action.iter_mut().zip(self.gain).zip(self.bias) {
            let feedback: f32 = gain.iter().zip(observation).map(|(gain, shown)| gain * shown).sum();
            *action = (bias + feedback).clamp(-1.0, 1.0);
        }
    }
}
