//! Steps of vectors: one linear layer a token, the embedding of the timestep, and that of the position.

use tch::{Kind, Tensor};

use crate::model::core::forward::ForwardContext;
use crate::model::core::inputs::Inputs;
use crate::model::core::layers::{LayerNorm, Module};
use crate::model::core::tokens::Token;

/// Which row of the position embedding a token is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// Row 0, whatever its place.
    First,
    /// The row of its place in the window.
    InWindow,
}

/// Embeds the steps of windows as tokens, a few per step, in an order that the family says.
#[derive(Debug)]
pub struct StepEncoder {
    /// The tokens of a step, each with the layer that embeds it.
    pub tokens: Vec<(Token, Module)>,
    /// `[max timesteps, D]`.
    pub timesteps: Tensor,
    /// `[max positions, D]`.
    pub positions: Tensor,
    /// How the position embedding is used.
    pub positioning: Positions,
    /// After a token and its timestep are added.
    pub norm: LayerNorm,
    /// Dropout of tokens.
    pub dropout: f64,
}

impl StepEncoder {
    /// Tokens of a step.
    pub fn tokens_per_step(&self) -> i64 {
        self.tokens.len() as i64
    }

    /// The action token's index in a step.
    pub fn action_index(&self) -> i64 {
        let index = self.tokens.iter().position(|(token, _)| *token == Token::Action);
        index.expect("a step has an action token") as i64
    }

    /// Whether a token is embedded alike wherever it stands in its window.
    pub fn is_position_free(&self) -> bool {
        self.positioning == Positions::First
    }

    /// The tokens of windows as the trunk reads them, `[B, K, D]`, and what is added to their attention scores,
    /// `[B, 1, K, K]`: 0 where a query may attend and −∞ where not.
    pub fn encode(&self, context: &mut ForwardContext, inputs: &Inputs) -> (Tensor, Tensor) {
        let (batch, steps) = inputs.timesteps.size2().expect("inputs are windows [B, T]");
        let tokens = self.tokens_per_step() * steps;
        let x = self.embed_tokens(context, inputs); // [B, K, D]
        let mask = self.token_mask(inputs); // [B, K]
        // Counted from the first real token, so that nothing depends on how long other windows are.
        let positions = (mask.cumsum(1, Kind::Int64) - 1).clamp_min(0); // [B, K]
        let x = self.add_positions(&x, &positions);
        let device = self.timesteps.device();
        let causal = Tensor::ones([tokens, tokens], (Kind::Bool, device)).tril(0); // [K, K]
        let hidden = mask.view([batch, 1, 1, tokens]).logical_and(&causal).logical_not();
        let bias = Tensor::zeros([batch, 1, tokens, tokens], (Kind::Float, device))
            .masked_fill_(&hidden, f64::NEG_INFINITY);
        (context.dropped(&x, self.dropout), bias)
    }

    /// Every token of every step with its timestep, not yet with its position: `[B, K, D]`.
    pub fn embed_tokens(&self, context: &mut ForwardContext, inputs: &Inputs) -> Tensor {
        let embedded: Vec<Tensor> =
            self.tokens.iter().map(|(token, module)| embed_token(context, inputs, *token, module)).collect();
        let time = Tensor::embedding(&self.timesteps, &inputs.timesteps, -1, false, false); // [B, T, D]
        (Tensor::stack(&embedded, 2) + time.unsqueeze(2)).flatten(1, 2)
    }

    /// The tokens `x` `[B, K, D]`, normalised, with the embedding of their `positions` `[B, K]`: `[B, K, D]`.
    pub fn add_positions(&self, x: &Tensor, positions: &Tensor) -> Tensor {
        let x = self.norm.forward(x);
        match self.positioning {
            Positions::First => x + self.positions.narrow(0, 0, 1),
            Positions::InWindow => x + Tensor::embedding(&self.positions, positions, -1, false, false),
        }
    }

    /// The mask of tokens: `[B, K]`.
    pub fn token_mask(&self, inputs: &Inputs) -> Tensor {
        inputs.mask.repeat_interleave_self_int(self.tokens_per_step(), 1, None)
    }
}

/// One token of every step, embedded: `[B, T, D]`.
fn embed_token(context: &mut ForwardContext, inputs: &Inputs, token: Token, module: &Module) -> Tensor {
    let x = match token {
        Token::Return => &inputs.returns_to_go,
        Token::State => &inputs.states,
        Token::Action => &inputs.actions,
        Token::Reward => inputs.rewards.as_ref().expect("a policy that reads rewards is given them"),
    };
    context.project(module, x)
}
