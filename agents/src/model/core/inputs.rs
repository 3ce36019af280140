//! What a policy reads, and what it answers.

use tch::Tensor;

/// What a policy reads: the parts of states as its encoders take them, actions as it knows them, scaled
/// returns-to-go.
#[derive(Debug)]
pub struct Inputs {
    /// `[B, T, S]`, the numbers of states, normalised; S may be 0.
    pub states: Tensor,
    /// `[B, T, L]`, the numbers of their texts' words, there where the policy reads such.
    pub words: Option<Tensor>,
    /// `[B, T, C, H, W]`, bytes, their images, there where the policy reads such; or `[B, T, D]`, floats, where it has
    /// embedded these before.
    pub images: Option<Tensor>,
    /// `[B, T, A]`; one-hot where actions are discrete.
    pub actions: Tensor,
    /// `[B, T, 1]`, scaled as returns are; there where the policy reads it.
    pub rewards: Option<Tensor>,
    /// `[B, T, 1]`.
    pub returns_to_go: Tensor,
    /// `[B, T]`, whole numbers below `max_ep_len`.
    pub timesteps: Tensor,
    /// `[B, T]`, true where a step is real and false where it pads.
    pub mask: Tensor,
}

impl Inputs {
    /// Windows `start..start + count`; shares storage with these.
    pub fn narrow(&self, start: i64, count: i64) -> Self {
        let part = |x: &Tensor| x.narrow(0, start, count); // [B, …] → [count, …]
        Self {
            states: part(&self.states),
            words: self.words.as_ref().map(part),
            images: self.images.as_ref().map(part),
            actions: part(&self.actions),
            rewards: self.rewards.as_ref().map(part),
            returns_to_go: part(&self.returns_to_go),
            timesteps: part(&self.timesteps),
            mask: part(&self.mask),
        }
    }
}

/// What a policy says of every step.
#[derive(Debug)]
pub struct Predictions {
    /// `[B, T, A]`, read before the action token; after tanh where the policy has it, logits where actions are
    /// discrete, the most probable number of each dimension where they are binned.
    pub actions: Tensor,
    /// `[B, T, A, bins]` where actions are binned.
    pub action_logits: Option<Tensor>,
    /// `[B, T, S]`, read at the action token, if the policy predicts it.
    pub states: Option<Tensor>,
    /// `[B, T, 1]`, read at the action token, if the policy predicts it.
    pub returns: Option<Tensor>,
}
