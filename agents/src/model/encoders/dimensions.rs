//! Steps as a state, a return-to-go, a token for each dimension of the action (or none), and a reward.

use tch::{Kind, Tensor};

use super::image::ImageEncoder;
use super::steps::causal_bias;
use crate::adapter::site::ModuleName;
use crate::model::core::bins::Bins;
use crate::model::core::forward::ForwardContext;
use crate::model::core::inputs::Inputs;
use crate::model::core::layers::{LayerNorm, Module, look_up};

/// What embeds a state.
#[derive(Debug)]
pub enum StateEmbedding {
    /// Of numbers, zeros behind them up to the layer's width: S → D.
    Numbers(Module),
    /// Of an image.
    Image(Box<ImageEncoder>),
}

/// How actions are tokens.
#[derive(Debug)]
pub struct ActionTokens {
    /// `[ids + 1, D]`; the last row stands where a step is padding.
    pub table: Tensor,
    /// Tokens of an action; dimensions behind the environment's are those of 0.
    pub count: i64,
    /// The ids of numbers; none where actions are ids themselves, one-hot.
    pub bins: Option<Bins>,
}

/// Embeds steps.
#[derive(Debug)]
pub struct DimensionEncoder {
    /// Of the state.
    pub state: StateEmbedding,
    /// Of the return-to-go: 1 → D.
    pub returns: Module,
    /// Of the action, if the context holds it.
    pub actions: Option<ActionTokens>,
    /// Of the reward: 1 → D.
    pub rewards: Module,
    /// `[max timesteps, D]`, if the family embeds them.
    pub timesteps: Option<Tensor>,
    /// After a token and its timestep are added.
    pub norm: LayerNorm,
    /// `[max positions, D]`.
    pub positions: Tensor,
    /// Whether a token gets the row of its place in the window, padding counted, and not row 0.
    pub places: bool,
    /// Whether tokens see padding too.
    pub sees_padding: bool,
    /// Dropout of tokens.
    pub dropout: f64,
}

impl DimensionEncoder {
    /// Tokens of an action.
    pub fn action_tokens(&self) -> i64 {
        self.actions.as_ref().map_or(0, |actions| actions.count)
    }

    /// The states of every step: `[B, T, D]`.
    pub fn embed_states(&self, context: &mut ForwardContext, inputs: &Inputs) -> Tensor {
        match &self.state {
            StateEmbedding::Numbers(module) => {
                let width = module.linear.matrix().size()[1];
                let missing = width - inputs.states.size()[2];
                context.project(module, &inputs.states.constant_pad_nd([0, missing]))
            }
            StateEmbedding::Image(encoder) => {
                let images = inputs.images.as_ref().expect("a policy that reads images is given them");
                match images.kind() {
                    Kind::Uint8 => encoder.forward(context, images),
                    _ => images.shallow_clone(), // embedded before
                }
            }
        }
    }

    /// Every token of every step, without its place: `[B, K, D]`.
    pub fn embed(&self, context: &mut ForwardContext, inputs: &Inputs) -> Tensor {
        let rewards = inputs.rewards.as_ref().expect("a policy that reads rewards is given them");
        let mut tokens = vec![
            self.embed_states(context, inputs).unsqueeze(2),
            context.project(&self.returns, &inputs.returns_to_go).unsqueeze(2),
        ];
        if let Some(actions) = &self.actions {
            let ids = actions.ids(&inputs.actions, &inputs.mask); // [B, T, n]
            tokens.push(look_up(&actions.table, &ids));
        }
        tokens.push(context.project(&self.rewards, rewards).unsqueeze(2));
        let tokens = Tensor::cat(&tokens, 2); // [B, T, P, D]
        let tokens = match &self.timesteps {
            Some(table) => tokens + look_up(table, &inputs.timesteps).unsqueeze(2),
            None => tokens,
        };
        self.norm.forward(&tokens.flatten(1, 2))
    }

    /// The tokens of windows as the trunk reads them, `[B, K, D]`, and what is added to their attention scores,
    /// `[B, 1, K, K]`.
    pub fn encode(&self, context: &mut ForwardContext, inputs: &Inputs) -> (Tensor, Tensor) {
        let x = self.embed(context, inputs);
        let places = self.positions.narrow(0, 0, if self.places { x.size()[1] } else { 1 }); // [K or 1, D]
        let mask = inputs.mask.repeat_interleave_self_int(3 + self.action_tokens(), 1, None);
        let mask = if self.sees_padding { mask.ones_like() } else { mask };
        (context.dropped(&(x + places), self.dropout), causal_bias(&mask))
    }

    /// Whether this module reads what the policy is given, rather than another module's output.
    pub fn reads_inputs(&self, module: &ModuleName) -> bool {
        let first = match &self.state {
            StateEmbedding::Numbers(numbers) => Some(&numbers.name),
            StateEmbedding::Image(image) => image.convolutions.first().map(|first| &first.name),
        };
        first == Some(module) || self.returns.name == *module || self.rewards.name == *module
    }

    /// Whether this module is one of its layers.
    pub fn holds(&self, module: &ModuleName) -> bool {
        let of_image = match &self.state {
            StateEmbedding::Numbers(_) => false,
            StateEmbedding::Image(image) => {
                image.projection.name == *module || image.convolutions.iter().any(|one| one.name == *module)
            }
        };
        of_image || self.reads_inputs(module)
    }
}

impl ActionTokens {
    /// The ids of actions `[B, T, A]`, of steps of which `mask` `[B, T]` are real: `[B, T, n]`.
    fn ids(&self, actions: &Tensor, mask: &Tensor) -> Tensor {
        let ids = match self.bins {
            Some(bins) => {
                let missing = self.count - actions.size()[2];
                bins.nearest(&actions.constant_pad_nd([0, missing]))
            }
            None => actions.argmax(-1, true), // [B, T, 1]
        };
        let padding = self.table.size()[0] - 1;
        ids.masked_fill(&mask.logical_not().unsqueeze(-1), padding)
    }
}
