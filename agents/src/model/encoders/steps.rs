//! Steps as tokens: the embedding of each part of a step, of its timestep, and of its position.

use tch::{Kind, Tensor};

use super::ids::IdsEncoder;
use super::image::ImageEncoder;
use super::observation::ObservationEncoder;
use crate::adapter::site::ModuleName;
use crate::model::core::forward::ForwardContext;
use crate::model::core::inputs::Inputs;
use crate::model::core::layers::{LayerNorm, Module, look_up};
use crate::model::core::tokens::Token;
use crate::tensor::cyclic;

/// Which row of the position embedding a token is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// Row 0, whatever its place.
    First,
    /// The row of its place in the window.
    InWindow,
}

/// Which timestep's embedding a token is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timesteps {
    /// That of its own step.
    OfStep,
    /// One for the whole window: of its first step in training, and of its last for acting.
    OfWindow,
}

/// What makes a vector of a part of a step.
#[derive(Debug)]
pub enum Embedding {
    /// A linear layer of numbers; of one-hot vectors, it is a table.
    Linear(Module),
    /// A linear layer of so many numbers: those of a part over and over, a state's with the reward before it.
    Cyclic(Module, i64),
    /// The rows of a table, `[N, D]`, of one-hot vectors.
    Table(Tensor),
    /// Of a state: its ids, and the reward before it.
    Ids(IdsEncoder),
    /// Of a state: its numbers, its text, its image.
    Observation(Box<ObservationEncoder>),
}

impl Embedding {
    /// The linear layer of numbers, where it is one.
    fn linear(&self) -> Option<&Module> {
        match self {
            Self::Linear(module) | Self::Cyclic(module, _) => Some(module),
            Self::Table(_) | Self::Ids(_) | Self::Observation(_) => None,
        }
    }
}

/// The encoder of one token of a step.
#[derive(Debug)]
pub struct TokenEncoder {
    /// What it holds.
    pub token: Token,
    /// What makes a vector of it.
    pub embedding: Embedding,
    /// Whether tanh follows.
    pub tanh: bool,
}

impl TokenEncoder {
    /// One token of every step, embedded: `[B, T, D]`.
    pub fn forward(&self, context: &mut ForwardContext, inputs: &Inputs) -> Tensor {
        let x = match &self.embedding {
            Embedding::Observation(encoder) => encoder.forward(context, inputs),
            Embedding::Linear(module) => context.project(module, self.numbers(inputs)),
            Embedding::Cyclic(module, width) => {
                let numbers = match self.token {
                    Token::State => Tensor::cat(&[&inputs.states, rewards_before(inputs)], -1),
                    _ => self.numbers(inputs).shallow_clone(),
                };
                context.project(module, &cyclic(&numbers, *width))
            }
            Embedding::Table(table) => look_up(table, &self.numbers(inputs).argmax(-1, false)),
            Embedding::Ids(encoder) => encoder.forward(context, &inputs.states, rewards_before(inputs)),
        };
        if self.tanh { x.tanh() } else { x }
    }

    /// What it reads where that is numbers: `[B, T, …]`.
    fn numbers<'i>(&self, inputs: &'i Inputs) -> &'i Tensor {
        match self.token {
            Token::Return => &inputs.returns_to_go,
            Token::State => &inputs.states,
            Token::Action => &inputs.actions,
            Token::Reward => inputs.rewards.as_ref().expect("a policy that reads rewards is given them"),
        }
    }
}

/// Embeds the steps of windows as tokens, a few per step, in an order that the family says.
#[derive(Debug)]
pub struct StepEncoder {
    /// The tokens of a step.
    pub tokens: Vec<TokenEncoder>,
    /// `[max timesteps, D]`, or `[1, max timesteps, D]`, if the family embeds them.
    pub timesteps: Option<Tensor>,
    /// How the timestep embedding is used.
    pub timing: Timesteps,
    /// `[max positions, D]`, or `[1, max positions, D]`.
    pub positions: Tensor,
    /// How the position embedding is used.
    pub positioning: Positions,
    /// After a token and its timestep are added, if the family has it.
    pub norm: Option<LayerNorm>,
    /// Dropout of tokens.
    pub dropout: f64,
    /// `[vocabulary, D]`, if the family reads texts as windows of their own.
    pub words: Option<Tensor>,
}

impl StepEncoder {
    /// Tokens of a step.
    pub fn tokens_per_step(&self) -> i64 {
        self.tokens.len() as i64
    }

    /// The action token's index in a step.
    pub fn action_index(&self) -> i64 {
        let index = self.tokens.iter().position(|encoder| encoder.token == Token::Action);
        index.expect("a step has an action token") as i64
    }

    /// Whether a token is embedded alike wherever it stands, in whichever window.
    pub fn is_position_free(&self) -> bool {
        self.positioning == Positions::First && self.timing == Timesteps::OfStep
    }

    /// Whether this module reads what the policy is given, rather than another module's output.
    pub fn reads_inputs(&self, module: &ModuleName) -> bool {
        self.tokens.iter().any(|encoder| match &encoder.embedding {
            Embedding::Observation(observation) => observation.reads_inputs(module),
            embedding => embedding.linear().is_some_and(|linear| linear.name == *module),
        })
    }

    /// Whether this module reads a row or an image of every step, as the modules before the trunk do.
    pub fn holds(&self, module: &ModuleName) -> bool {
        self.tokens.iter().any(|encoder| match &encoder.embedding {
            Embedding::Observation(observation) => observation.holds(module),
            embedding => embedding.linear().is_some_and(|linear| linear.name == *module),
        })
    }

    /// The tokens of windows as the trunk reads them, `[B, K, D]`, and what is added to their attention scores,
    /// `[B, 1, K, K]`: 0 where a query may attend and −∞ where not.
    pub fn encode(&self, context: &mut ForwardContext, inputs: &Inputs) -> (Tensor, Tensor) {
        let first = || inputs.mask.to_kind(Kind::Int64).argmax(1, true); // [B, 1], the first real step
        self.encode_at(context, inputs, &|| inputs.timesteps.gather(1, &first(), false))
    }

    /// The same for acting at the last step.
    pub fn encode_for_acting(&self, context: &mut ForwardContext, inputs: &Inputs) -> (Tensor, Tensor) {
        self.encode_at(context, inputs, &|| inputs.timesteps.slice(1, -1, None, 1))
    }

    /// The same, where `of_window` gives the timestep of a window as a whole: `[B, 1]`.
    fn encode_at(
        &self,
        context: &mut ForwardContext,
        inputs: &Inputs,
        of_window: &dyn Fn() -> Tensor,
    ) -> (Tensor, Tensor) {
        let timesteps = match self.timing {
            Timesteps::OfStep => inputs.timesteps.shallow_clone(),
            Timesteps::OfWindow => of_window(),
        }; // [B, T] or [B, 1]
        let x = self.embed_tokens(context, inputs, &timesteps); // [B, K, D]
        let mask = self.token_mask(inputs); // [B, K]
        // Counted from the first real token, so that nothing depends on how long other windows are.
        let positions = (mask.cumsum(1, Kind::Int64) - 1).clamp_min(0); // [B, K]
        let x = self.add_positions(&x, &positions);
        (context.dropped(&x, self.dropout), causal_bias(&mask))
    }

    /// The encoder of the state's image, where the policy reads such.
    pub fn image_encoder(&self) -> Option<&ImageEncoder> {
        self.tokens.iter().find_map(|encoder| match &encoder.embedding {
            Embedding::Observation(observation) => observation.image.as_ref(),
            _ => None,
        })
    }

    /// Every token of every step with the embedding of its timestep in `timesteps` `[B, T]` or `[B, 1]`, not yet with
    /// that of its position: `[B, K, D]`.
    pub fn embed_tokens(&self, context: &mut ForwardContext, inputs: &Inputs, timesteps: &Tensor) -> Tensor {
        let embedded: Vec<Tensor> =
            self.tokens.iter().map(|encoder| encoder.forward(context, inputs)).collect();
        let tokens = Tensor::stack(&embedded, 2); // [B, T, P, D]
        let tokens = match &self.timesteps {
            Some(table) => tokens + look_up(table, timesteps).unsqueeze(2), // [B, T or 1, 1, D]
            None => tokens,
        };
        tokens.flatten(1, 2)
    }

    /// The tokens `x` `[B, K, D]`, normalised, with the embedding of their `positions` `[B, K]`: `[B, K, D]`.
    pub fn add_positions(&self, x: &Tensor, positions: &Tensor) -> Tensor {
        let x = match &self.norm {
            Some(norm) => norm.forward(x),
            None => x.shallow_clone(),
        };
        match self.positioning {
            Positions::First => x + self.positions.flatten(0, -2).narrow(0, 0, 1),
            Positions::InWindow => x + look_up(&self.positions, positions),
        }
    }

    /// The mask of tokens: `[B, K]`.
    pub fn token_mask(&self, inputs: &Inputs) -> Tensor {
        inputs.mask.repeat_interleave_self_int(self.tokens_per_step(), 1, None)
    }
}

/// The rewards before steps: `[B, T, 1]`.
fn rewards_before(inputs: &Inputs) -> &Tensor {
    let previous = inputs.previous.as_ref().expect("a policy that reads what was before is given it");
    &previous.rewards
}

/// What is added to attention scores of windows of tokens, of which `mask` `[B, K]` are real: `[B, 1, K, K]`, 0 where
/// a query may attend and −∞ where not.
pub fn causal_bias(mask: &Tensor) -> Tensor {
    let (batch, tokens) = mask.size2().expect("a mask is [B, K]");
    let causal = Tensor::ones([tokens, tokens], (Kind::Bool, mask.device())).tril(0); // [K, K]
    let hidden = mask.view([batch, 1, 1, tokens]).logical_and(&causal).logical_not();
    Tensor::zeros([batch, 1, tokens, tokens], (Kind::Float, mask.device()))
        .masked_fill_(&hidden, f64::NEG_INFINITY)
}
