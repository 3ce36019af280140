//! `[policy.new]`: a decision transformer with random weights.

use eva_rl_agents::model::{Activation, ImageNetwork, Token};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::Checks;

/// Size and conditioning of a new policy.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPolicyConfig {
    /// Width of the residual stream.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub hidden_size: i64,
    /// Blocks.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub layers: i64,
    /// Attention heads.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub heads: i64,
    /// Dropout of embeddings, attention and residual branches.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub dropout: f64,
    /// Steps that the policy looks back on.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub context_length: i64,
    /// Timesteps that have an embedding.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub max_episode_length: i64,
    /// What returns are divided by.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub return_scale: f32,
    /// The target return where the user names none, in the environment's units.
    pub target_return: f32,
    /// The tokens of a step; the action is read at the token before its own.
    #[serde(default = "usual_tokens")]
    pub tokens: Vec<Token>,
    /// Whether a token's place in the window is embedded, beside its timestep.
    #[serde(default)]
    pub global_positions: bool,
    /// What reads the image of an observation: `"nature_cnn"`, `"impala_cnn"`, or `"symbols"` for MiniGrid's. Where
    /// absent, an image is flattened like any other numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_encoder: Option<ImageNetwork>,
    /// The key of the text of an observation, such as `"mission"`, whose words in the data become the policy's
    /// vocabulary. Where absent, its characters are numbers like any others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
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
    /// One number per dimension, squashed by tanh and trained by squared error.
    Continuous {},
    /// One of evenly spaced bins per dimension, trained by cross entropy.
    Binned {
        /// Number of bins.
        #[schemars(range(min = 2, max = 65_536))]
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
        checks.relation(
            "policy.new.heads",
            self.heads,
            self.heads != 0 && self.hidden_size % self.heads == 0,
            "must divide policy.new.hidden_size",
        );
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
