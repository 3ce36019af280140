//! `[policy.new]`: a decision transformer with random weights.

use eva_rl_agents::model::Activation;
use eva_rl_agents::model::Token;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::Checks;

/// Size and conditioning of a new policy.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPolicyConfig {
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Blocks.
    pub layers: i64,
    /// Attention heads.
    pub heads: i64,
    /// Dropout of embeddings, attention and residual branches.
    pub dropout: f64,
    /// Steps that the policy looks back on.
    pub context_length: i64,
    /// Timesteps that have an embedding.
    pub max_episode_length: i64,
    /// What returns are divided by.
    pub return_scale: f32,
    /// The return to ask for by default, in the environment's units.
    pub target_return: f32,
    /// The tokens of a step; the action is read at the token before its own.
    #[serde(default = "usual_tokens")]
    pub tokens: Vec<Token>,
    /// Whether a token's place in the window is embedded, beside its timestep.
    #[serde(default)]
    pub global_positions: bool,
    /// How continuous actions are chosen; discrete ones always by logits.
    #[serde(default)]
    pub action_head: ActionHeadConfig,
    /// The feed-forward parts' activation function.
    #[serde(default = "usual_activation")]
    pub activation: Activation,
}

fn usual_tokens() -> Vec<Token> {
    vec![Token::Return, Token::State, Token::Action]
}

fn usual_activation() -> Activation {
    Activation::Relu
}

/// `action_head = { continuous = {} }` or `{ binned = { bins = 64 } }`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ActionHeadConfig {
    /// A number a dimension, squashed by tanh and trained by squared error.
    Continuous {},
    /// One of balanced spaced numbers a dimension, trained by cross entropy.
    Binned {
        /// How many.
        bins: i64,
    },
}

impl Default for ActionHeadConfig {
    fn default() -> Self {
        Self::Continuous {}
    }
}

impl NewPolicyConfig {
    /// Checks what types cannot.
    pub(super) fn check(&self, checks: &mut Checks) {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        for (key, size) in [
            ("policy.new.hidden_size", self.hidden_size),
            ("policy.new.layers", self.layers),
            ("policy.new.heads", self.heads),
            ("policy.new.context_length", self.context_length),
            ("policy.new.max_episode_length", self.max_episode_length),
        ] {
            checks.value(key, size, (1..=1 << 20).contains(&size), "must lie in 1..=1048576");
        }
        checks.relation(
            "policy.new.heads",
            self.heads,
            self.heads != 0 && self.hidden_size % self.heads == 0,
            "must divide policy.new.hidden_size",
        );
        checks.value(
            "policy.new.dropout",
            self.dropout,
            (0.0..1.0).contains(&self.dropout),
            "must lie in [0, 1)",
        );
        let scale = self.return_scale;
        checks.value("policy.new.return_scale", scale, positive(f64::from(scale)), "must be positive");
        let target = self.target_return;
        checks.value("policy.new.target_return", target, target.is_finite(), "must be finite");
        if let ActionHeadConfig::Binned { bins } = self.action_head {
            let key = "policy.new.action_head.binned.bins";
            checks.value(key, bins, (2..=65_536).contains(&bins), "must lie in 2..=65536");
        }
        let counted = |token| self.tokens.iter().filter(|other| **other == token).count();
        let whole = [Token::Return, Token::State, Token::Action].into_iter().all(|token| counted(token) == 1);
        checks.value(
            "policy.new.tokens",
            format!("{:?}", self.tokens),
            whole && counted(Token::Reward) <= 1 && self.tokens[0] != Token::Action,
            "must hold return, state and action once each, reward at most once, and not begin with the action",
        );
    }
}
