//! What a family's policies make of steps before the trunk.

use tch::{Kind, Tensor};

use super::dimensions::{DimensionEncoder, StateEmbedding};
use super::image::ImageEncoder;
use super::steps::{StepEncoder, causal_bias};
use super::transition::TransitionEncoder;
use crate::adapter::site::ModuleName;
use crate::model::core::forward::ForwardContext;
use crate::model::core::inputs::Inputs;
use crate::model::core::layers::look_up;
use crate::model::core::tokens::Token;

/// Embeds the steps of windows as tokens.
#[derive(Debug)]
pub enum Encoder {
    /// A token for each part of a step, the action among them.
    Parts(StepEncoder),
    /// One token a step, which holds what was before the step.
    Transition(Box<TransitionEncoder>),
    /// A token for each part of a step, and for each dimension of its action.
    Dimensions(Box<DimensionEncoder>),
}

impl Encoder {
    /// The tokens of a step, in order.
    pub fn tokens(&self) -> Vec<Token> {
        match self {
            Self::Parts(parts) => parts.tokens.iter().map(|encoder| encoder.token).collect(),
            Self::Transition(_) => vec![Token::State],
            Self::Dimensions(encoder) => {
                let actions = vec![Token::Action; encoder.action_tokens() as usize];
                [&[Token::State, Token::Return], actions.as_slice(), &[Token::Reward]].concat()
            }
        }
    }

    /// P: tokens of a step.
    pub fn tokens_per_step(&self) -> i64 {
        self.tokens().len() as i64
    }

    /// Tokens of a step up to the one at which its action is read.
    pub fn tokens_to_read(&self) -> i64 {
        match self {
            Self::Parts(parts) => parts.action_index(),
            Self::Transition(_) => 1,
            Self::Dimensions(_) => 2,
        }
    }

    /// Whether each dimension of an action is a token.
    pub fn dimensions_in_context(&self) -> bool {
        matches!(self, Self::Dimensions(encoder) if encoder.actions.as_ref().is_some_and(|actions| actions.bins.is_some()))
    }

    /// Whether a token is embedded alike wherever it stands, in whichever window.
    pub fn is_position_free(&self) -> bool {
        match self {
            Self::Parts(parts) => parts.is_position_free(),
            Self::Transition(_) => true,
            Self::Dimensions(_) => false,
        }
    }

    /// Whether this module reads what the policy is given, rather than another module's output.
    pub fn reads_inputs(&self, module: &ModuleName) -> bool {
        match self {
            Self::Parts(parts) => parts.reads_inputs(module),
            Self::Transition(transition) => transition.reads_inputs(module),
            Self::Dimensions(encoder) => encoder.reads_inputs(module),
        }
    }

    /// Whether this module reads a row or an image of every step, as the modules before the trunk do.
    pub fn holds(&self, module: &ModuleName) -> bool {
        match self {
            Self::Parts(parts) => parts.holds(module),
            Self::Transition(transition) => transition.holds(module),
            Self::Dimensions(encoder) => encoder.holds(module),
        }
    }

    /// The tokens of windows as the trunk reads them, `[B, K, D]`, and what is added to their attention scores,
    /// `[B, 1, K, K]`: 0 where a query may attend and −∞ where not.
    pub fn encode(&self, context: &mut ForwardContext, inputs: &Inputs) -> (Tensor, Tensor) {
        match self {
            Self::Parts(parts) => parts.encode(context, inputs),
            Self::Transition(transition) => (transition.forward(context, inputs), causal_bias(&inputs.mask)),
            Self::Dimensions(encoder) => encoder.encode(context, inputs),
        }
    }

    /// Texts `[B, L]` of ids as the trunk reads them, `[B, L, D]`, and their bias `[B, 1, L, L]`; none where the family
    /// reads no such.
    pub fn encode_text(&self, ids: &Tensor) -> Option<(Tensor, Tensor)> {
        let Self::Parts(parts) = self else { return None };
        let x = look_up(parts.words.as_ref()?, ids); // [B, L, D]
        let all = ids.ge(0);
        let positions = all.cumsum(1, Kind::Int64) - 1;
        Some((parts.add_positions(&x, &positions), causal_bias(&all)))
    }

    /// The same for acting at the last step.
    pub fn encode_for_acting(&self, context: &mut ForwardContext, inputs: &Inputs) -> (Tensor, Tensor) {
        match self {
            Self::Parts(parts) => parts.encode_for_acting(context, inputs),
            Self::Transition(_) | Self::Dimensions(_) => self.encode(context, inputs),
        }
    }

    /// Every token of every step, not yet with the embedding of its place in the window: `[B, K, D]`.
    pub fn embed_tokens(&self, context: &mut ForwardContext, inputs: &Inputs) -> Tensor {
        match self {
            Self::Parts(parts) => parts.embed_tokens(context, inputs, &inputs.timesteps),
            Self::Transition(transition) => transition.forward(context, inputs),
            Self::Dimensions(encoder) => encoder.embed(context, inputs),
        }
    }

    /// The tokens `x` `[B, K, D]` as the trunk reads them at these `positions` `[B, K]`: `[B, K, D]`.
    pub fn add_positions(&self, x: &Tensor, positions: &Tensor) -> Tensor {
        match self {
            Self::Parts(parts) => parts.add_positions(x, positions),
            Self::Transition(_) | Self::Dimensions(_) => x.shallow_clone(),
        }
    }

    /// The encoder of the state's image, where the policy reads such.
    pub fn image_encoder(&self) -> Option<&ImageEncoder> {
        match self {
            Self::Parts(parts) => parts.image_encoder(),
            Self::Transition(_) => None,
            Self::Dimensions(encoder) => match &encoder.state {
                StateEmbedding::Image(image) => Some(image),
                StateEmbedding::Numbers(_) => None,
            },
        }
    }

    /// What the state token is given of images `[B, T, C, H, W]`, where the policy reads such: `[B, T, D]`.
    pub fn embed_images(&self, context: &mut ForwardContext, images: &Tensor) -> Option<Tensor> {
        self.image_encoder().map(|encoder| encoder.forward(context, images))
    }

    /// One token of every step, without its timestep and place: `[B, T, D]`.
    pub fn embed(&self, context: &mut ForwardContext, inputs: &Inputs, token: Token) -> Tensor {
        match self {
            Self::Parts(parts) => {
                let encoder = parts.tokens.iter().find(|encoder| encoder.token == token);
                encoder.expect("the policy reads the token").forward(context, inputs)
            }
            Self::Transition(transition) => transition.forward(context, inputs),
            Self::Dimensions(encoder) => encoder.embed_states(context, inputs),
        }
    }

    /// The mask of tokens: `[B, K]`.
    pub fn token_mask(&self, inputs: &Inputs) -> Tensor {
        inputs.mask.repeat_interleave_self_int(self.tokens_per_step(), 1, None)
    }
}
