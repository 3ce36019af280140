//! What a policy reads, and what it answers.

use tch::{Kind, Tensor};

use crate::ranks::Ranks;

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
    /// What came before each step, there where the policy reads it.
    pub previous: Option<Previous>,
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
        self.map(&|x| x.narrow(0, start, count)) // [B, …] → [count, …]
    }

    /// The windows that are this rank's, and their share of the real steps; nothing where it has none.
    pub fn part_of(&self, ranks: &dyn Ranks) -> Option<(Self, f64)> {
        if ranks.is_alone() {
            return Some((self.narrow(0, self.mask.size()[0]), 1.0));
        }
        let part = ranks.part(self.mask.size()[0] as usize);
        if part.is_empty() {
            return None;
        }
        let own = self.narrow(part.start as i64, part.len() as i64);
        let steps = |inputs: &Self| inputs.mask.sum(Kind::Int64).int64_value(&[]) as f64;
        let share = steps(&own) / steps(self);
        (share > 0.0).then_some((own, share))
    }

    /// The windows at these places, `[R]`.
    pub fn select(&self, index: &Tensor) -> Self {
        self.map(&|x| x.index_select(0, index)) // [B, …] → [R, …]
    }

    /// Steps `start..start + count` of all windows; shares storage with these.
    pub fn steps(&self, start: i64, count: i64) -> Self {
        self.map(&|x| x.narrow(1, start, count)) // [B, T, …] → [B, count, …]
    }

    /// What `part` gives of every tensor `[B, T, …]`.
    fn map(&self, part: &dyn Fn(&Tensor) -> Tensor) -> Self {
        Self {
            states: part(&self.states),
            words: self.words.as_ref().map(part),
            images: self.images.as_ref().map(part),
            previous: self.previous.as_ref().map(|previous| Previous {
                actions: part(&previous.actions),
                rewards: part(&previous.rewards),
            }),
            actions: part(&self.actions),
            rewards: self.rewards.as_ref().map(part),
            returns_to_go: part(&self.returns_to_go),
            timesteps: part(&self.timesteps),
            mask: part(&self.mask),
        }
    }
}

/// The actions and rewards that led to steps; of an episode's first step, any numbers.
#[derive(Debug)]
pub struct Previous {
    /// `[B, T, A]`.
    pub actions: Tensor,
    /// `[B, T, 1]`, scaled as returns are.
    pub rewards: Tensor,
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
    /// `[B, T, C, H, W]`, from −1 to 1, read at the action token, if the policy predicts it.
    pub images: Option<Tensor>,
    /// `[B, T, 1]`, read at the action token, if the policy predicts it.
    pub returns: Option<Tensor>,
}
