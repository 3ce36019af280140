//! `[policy.new]`, `[policy.new_l2m]` and `[policy.new_lram]`: policies with random weights.

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

/// Size and conditioning of a new policy whose actions are ids of a vocabulary.
///
/// It reads an observation's image where the data has one, by the families' own encoder, and numbers otherwise.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDiscretisedConfig {
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
    /// Steps of a window, which is padded to that length from the first step on.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub context_length: i64,
    /// Timesteps that have an embedding, which L2M alone reads.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub max_episode_length: i64,
    /// What returns and rewards are divided by.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub return_scale: f32,
    /// The target return where the user names none, in the environment's units.
    pub target_return: f32,
    /// Bins of a number, of equal width between the bounds of the data's actions; each stands for its lower edge.
    #[schemars(range(min = 2, max = 65_536))]
    pub bins: i64,
    /// Ids of discrete actions, before the bins; data of discrete actions needs as many as its environment has.
    #[serde(default)]
    #[schemars(range(min = 0, max = 65_536))]
    pub discrete_actions: i64,
    /// Whether a token's place in the window is embedded.
    #[serde(default)]
    pub global_positions: bool,
    /// The feed-forward parts' activation function.
    #[serde(default = "exact_gelu")]
    pub activation: Activation,
}

fn exact_gelu() -> Activation {
    Activation::Gelu
}

/// Refuses heads that do not share the width evenly; `table` is that of the new policy.
fn check_heads(checks: &mut Checks, table: &str, heads: i64, hidden_size: i64) {
    checks.relation(
        format!("policy.{table}.heads"),
        heads,
        heads != 0 && hidden_size % heads == 0,
        &format!("must divide policy.{table}.hidden_size"),
    );
}

impl NewDiscretisedConfig {
    /// Checks what types cannot; `table` is its name.
    pub(super) fn check(&self, checks: &mut Checks, table: &str) {
        check_heads(checks, table, self.heads, self.hidden_size);
    }
}

impl NewPolicyConfig {
    /// Checks what types cannot.
    pub(super) fn check(&self, checks: &mut Checks) {
        check_heads(checks, "new", self.heads, self.hidden_size);
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
