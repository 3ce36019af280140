//! `config.json` of a policy folder: Hugging Face's `DecisionTransformerConfig`, and our extra keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::bad_field::BadField;
use super::grid::Grid;
use super::tasks::Tasks;
use super::texts::TextReading;
use super::tokenizer::TokenizerFiles;
use super::tokens::Token;
use super::vocabulary::Vocabulary;

/// The feed-forward part's activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(0, x).
    Relu,
    /// x·Φ(x).
    #[serde(alias = "gelu_python")]
    Gelu,
    /// GELU's tanh approximation, GPT-2's own.
    #[serde(alias = "gelu_pytorch_tanh", alias = "gelu_fast", alias = "gelu_python_tanh")]
    GeluNew,
    /// x·σ(x).
    #[serde(alias = "swish")]
    Silu,
    /// tanh x.
    Tanh,
}

/// What an action of the policy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// One number per dimension, squashed by tanh.
    #[default]
    Continuous,
    /// One of `act_dim` actions: logits out, one-hot in.
    Discrete,
    /// One number per dimension, chosen among `action_bins` from −1 to 1: logits out, numbers in.
    Binned,
}

/// The encoder of a policy's images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageNetwork {
    /// The three convolutions of the DQN (Mnih et al. 2015), for frames of at least 36 × 36.
    NatureCnn,
    /// The fifteen convolutions of IMPALA (Espeholt et al. 2018), in three stages of residual blocks.
    ImpalaCnn,
    /// A vector per symbol and two convolutions of 3 × 3, for MiniGrid's images of symbols.
    Symbols,
}

/// Where a policy's statistics were found: normalisation, return scale, target and the like.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum StatisticsSource {
    /// The policy's own `config.json`.
    #[default]
    Config,
    /// Another file, beside the policy or named by the user.
    File(std::path::PathBuf),
    /// The table of published releases.
    Release(String),
    /// A dataset, of this name.
    Data(String),
}

impl std::fmt::Display for StatisticsSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Config => f.write_str("config.json"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Release(name) => write!(f, "the published release {name}"),
            Self::Data(name) => write!(f, "the data {name}"),
        }
    }
}

/// `config.json`. Fields up to `initializer_range` are transformers' own, with its defaults; the
/// others are ours, which transformers keeps and ignores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyConfig {
    /// `decision_transformer`, or `eva_rl_decision_transformer` where transformers' model computes
    /// something else: another token order, global positions, or actions in bins.
    pub model_type: String,
    /// Width of a state, flattened: its numbers, the characters of its text, and the bytes of its image.
    pub state_dim: i64,
    /// A: width of an action, or the number of discrete actions.
    pub act_dim: i64,
    /// D: width of the residual stream.
    pub hidden_size: i64,
    /// Timesteps that have an embedding.
    pub max_ep_len: i64,
    /// Whether tanh follows the action head.
    pub action_tanh: bool,
    /// Rows of GPT-2's word embedding, which a decision transformer does not use.
    pub vocab_size: i64,
    /// Rows of GPT-2's position embedding, of which row 0 is added to every token.
    pub n_positions: i64,
    /// Blocks.
    pub n_layer: i64,
    /// H: attention heads.
    pub n_head: i64,
    /// I: inner width of the feed-forward part; 4·D where absent.
    pub n_inner: Option<i64>,
    /// The feed-forward part's activation function.
    pub activation_function: Activation,
    /// Dropout after each residual branch.
    pub resid_pdrop: f64,
    /// Dropout after the embeddings.
    pub embd_pdrop: f64,
    /// Dropout of attention weights.
    pub attn_pdrop: f64,
    /// Added to the variance by the blocks' layer norms.
    pub layer_norm_epsilon: f64,
    /// Whether attention scores are divided by √(D/H).
    pub scale_attn_weights: bool,
    /// Whether block i's attention scores are also divided by i + 1.
    pub scale_attn_by_inverse_layer_idx: bool,
    /// Standard deviation of a new policy's weights.
    pub initializer_range: f64,

    /// What an action is.
    pub action_kind: ActionKind,
    /// Numbers that an action of kind `binned` may take, a dimension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_bins: Option<i64>,
    /// Ids before the bins among `action_bins`, which then stand for their lower edges, as L2M's and LRAM's do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids_before_bins: Option<i64>,
    /// Whether actions are the environment's own numbers, whatever its bounds, and not from −1 to 1.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub raw_actions: bool,
    /// Whether states are read as they are, without normalisation.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub raw_states: bool,
    /// The tokens of a step. The action is read at the token before its own.
    #[serde(skip_serializing_if = "is_original_order")]
    pub token_order: Vec<Token>,
    /// Whether token k of a window gets row k of the position embedding, and not row 0.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub global_positions: bool,
    /// `[C, H, W]` of states that are images of bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_shape: Option<[i64; 3]>,
    /// What reads images; the family's own where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_encoder: Option<ImageNetwork>,
    /// Where states hold a text, and the words that are known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Vocabulary>,
    /// T: steps that the policy looks back on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_length: Option<i64>,
    /// Mean of each state dimension over the training data, the image aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_mean: Option<Vec<f32>>,
    /// Standard deviation of each state dimension over the training data, the image aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_std: Option<Vec<f32>>,
    /// What returns are divided by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub return_scale: Option<f32>,
    /// The return to ask for where the user names none, in the environment's units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_return: Option<f32>,
    /// The greatest return-to-go of the training data, in the environment's units, so that a user can be told of a
    /// target return above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_return_to_go: Option<f32>,
    /// The environment's least action a dimension, which the policy knows as −1; −1 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_low: Option<Vec<f32>>,
    /// The environment's greatest action a dimension, which the policy knows as 1; 1 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_high: Option<Vec<f32>>,

    /// The task that is played, of a policy that knows several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The tasks that it knows, of which a file beside `config.json` tells; none where it plays one without a name.
    #[serde(skip)]
    pub tasks: Tasks,
    /// Tasks that were given beside those of its files, which are among `tasks` too.
    #[serde(skip)]
    pub new_tasks: Tasks,
    /// Tensors that no file has: those of the encoders and heads of new tasks' groups.
    #[serde(skip)]
    pub new_tensors: Vec<String>,
    /// Where states show a direction, symbols and a mission that are read as ids, once there is an environment.
    #[serde(skip)]
    pub grid: Option<Grid>,
    /// The files beside `config.json` by which it reads words.
    #[serde(skip)]
    pub tokenizer: TokenizerFiles,
    /// Where the statistics among these keys were found.
    #[serde(skip)]
    pub statistics_from: StatisticsSource,
    /// Tensors of the file that no part of a decision transformer bears the name of; they were left out.
    #[serde(skip)]
    pub ignored: Vec<String>,
    /// Keys that this program has no use for, kept so that a folder is written back whole.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        let mut other = Map::new();
        other.insert("architectures".to_owned(), serde_json::json!(["DecisionTransformerModel"]));
        Self {
            model_type: "decision_transformer".to_owned(),
            state_dim: 17,
            act_dim: 4,
            hidden_size: 128,
            max_ep_len: 4096,
            action_tanh: true,
            vocab_size: 1,
            n_positions: 1024,
            n_layer: 3,
            n_head: 1,
            n_inner: None,
            activation_function: Activation::Relu,
            resid_pdrop: 0.1,
            embd_pdrop: 0.1,
            attn_pdrop: 0.1,
            layer_norm_epsilon: 1e-5,
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
            initializer_range: 0.02,
            action_kind: ActionKind::Continuous,
            action_bins: None,
            ids_before_bins: None,
            raw_actions: false,
            raw_states: false,
            token_order: ORIGINAL_ORDER.to_vec(),
            global_positions: false,
            image_shape: None,
            image_encoder: None,
            text: None,
            context_length: None,
            state_mean: None,
            state_std: None,
            return_scale: None,
            target_return: None,
            max_return_to_go: None,
            action_low: None,
            action_high: None,
            task: None,
            tasks: Tasks::new(),
            new_tasks: Tasks::new(),
            new_tensors: Vec::new(),
            grid: None,
            tokenizer: TokenizerFiles::default(),
            statistics_from: StatisticsSource::Config,
            ignored: Vec::new(),
            other,
        }
    }
}

/// The order of the original decision transformer, and of transformers'.
const ORIGINAL_ORDER: [Token; 3] = [Token::Return, Token::State, Token::Action];

fn is_original_order(order: &[Token]) -> bool {
    order == ORIGINAL_ORDER
}

/// Most blocks of a policy; each has twelve tensors, which are looked for by name.
const MAX_BLOCKS: i64 = 4096;

impl PolicyConfig {
    /// I: inner width of the feed-forward part.
    pub fn inner(&self) -> i64 {
        self.n_inner.unwrap_or(4 * self.hidden_size)
    }

    /// Bytes of an image; 0 where the policy reads none.
    pub fn pixels(&self) -> i64 {
        self.image_shape.map_or(0, |shape| shape.iter().product())
    }

    /// Width of a state's row: its numbers and the characters of its text.
    pub fn row_width(&self) -> i64 {
        self.grid.as_ref().map_or(self.state_dim - self.pixels(), |grid| grid.place.row_width as i64)
    }

    /// Channels, height and width of the image beside a state's row, if there is one.
    pub fn shown_image(&self) -> Option<[i64; 3]> {
        self.grid.as_ref().map_or(self.image_shape, |grid| grid.place.symbols.image())
    }

    /// How it reads the text of a state, if it does.
    pub fn text_reading(&self) -> Option<TextReading<'_>> {
        TextReading::of(self.text.as_ref(), self.grid.as_ref())
    }

    /// S: numbers of a state, as the encoder reads them.
    pub fn numbers(&self) -> i64 {
        self.state_dim - self.pixels() - self.text.as_ref().map_or(0, |text| text.columns.len() as i64)
    }

    /// Width of the action head.
    pub fn action_outputs(&self) -> i64 {
        self.act_dim * self.action_bins.unwrap_or(1)
    }

    /// Whether a step has this token.
    pub fn reads(&self, token: Token) -> bool {
        self.token_order.contains(&token)
    }

    /// Whether a policy's context goes on over episodes.
    pub fn spans_episodes(&self) -> bool {
        self.token_order == [Token::State]
    }

    /// Whether actions are ids of a vocabulary, as L2M's and LRAM's are: windows are whole then, padded to the context,
    /// and a return-to-go never rises above the target.
    pub fn has_action_vocabulary(&self) -> bool {
        self.ids_before_bins.is_some()
    }

    /// Whether the family's reference acts by a context that rolls, and not by windows.
    pub fn has_rolling_reference(&self) -> bool {
        self.reads_previous()
    }

    /// Whether it reads the reward before each step, or the action too.
    pub fn reads_previous(&self) -> bool {
        !self.reads(Token::Return)
    }

    /// Whether a step has the original decision transformer's tokens.
    pub fn has_original_order(&self) -> bool {
        is_original_order(&self.token_order)
    }

    /// Refuses fields that no model can be built from.
    pub(in crate::model) fn check(&self) -> Result<(), BadField> {
        let bad = |key: &'static str, found: String, wanted: &str| {
            Err(BadField { key: key.into(), found, wanted: wanted.to_owned() })
        };
        self.check_bins()?;
        let sizes = [
            ("state_dim", self.state_dim),
            ("act_dim", self.act_dim),
            ("hidden_size", self.hidden_size),
            ("max_ep_len", self.max_ep_len),
            ("vocab_size", self.vocab_size),
            ("n_positions", self.n_positions),
            ("n_layer", self.n_layer),
            ("n_head", self.n_head),
            ("n_inner", self.inner()),
            ("context_length", self.context_length.unwrap_or(1)),
        ];
        for (key, size) in sizes {
            if !(1..=1 << 24).contains(&size) {
                return bad(key, size.to_string(), "a size from 1 to 16,777,216");
            }
        }
        if self.n_layer > MAX_BLOCKS {
            return bad("n_layer", self.n_layer.to_string(), "a number of blocks up to 4,096");
        }
        if self.hidden_size % self.n_head != 0 {
            return bad(
                "n_head",
                self.n_head.to_string(),
                &format!("a divisor of hidden_size {}", self.hidden_size),
            );
        }
        let shares = [
            ("resid_pdrop", self.resid_pdrop),
            ("embd_pdrop", self.embd_pdrop),
            ("attn_pdrop", self.attn_pdrop),
        ];
        for (key, share) in shares {
            if !(0.0..1.0).contains(&share) {
                return bad(key, share.to_string(), "a probability below 1");
            }
        }
        if self.action_kind != ActionKind::Continuous && self.action_tanh {
            return bad("action_tanh", "true".to_owned(), "false where the action head gives logits");
        }
        if self.other.get("add_cross_attention").and_then(Value::as_bool) == Some(true) {
            return bad("add_cross_attention", "true".to_owned(), "false");
        }
        let (state, action) = (self.row_width() as usize, self.act_dim as usize);
        let lists = [
            ("state_mean", &self.state_mean, state),
            ("state_std", &self.state_std, state),
            ("action_low", &self.action_low, action),
            ("action_high", &self.action_high, action),
        ];
        for (key, list, width) in lists {
            if let Some(list) = list
                && (list.len() != width || list.iter().any(|x| !x.is_finite()))
            {
                return bad(key, format!("{list:?}"), &format!("a list of {width} finite numbers"));
            }
        }
        if let Some(std) = &self.state_std
            && std.iter().any(|x| *x <= 0.0)
        {
            return bad("state_std", format!("{std:?}"), "a list of positive numbers");
        }
        if let Some(scale) = self.return_scale
            && !(scale.is_finite() && scale > 0.0)
        {
            return bad("return_scale", scale.to_string(), "a positive number");
        }
        Ok(())
    }

    /// Refuses images and texts that a state of this width cannot hold.
    pub(in crate::model) fn check_parts(&self) -> Result<(), BadField> {
        let bad = |key: &'static str, found: String, wanted: String| {
            Err(BadField { key: key.into(), found, wanted })
        };
        if let Some(shape) = self.image_shape
            && shape.iter().any(|size| !(1..=4096).contains(size))
        {
            let wanted = "[channels, height, width], each from 1 to 4,096";
            return bad("image_shape", format!("{shape:?}"), wanted.to_owned());
        }
        if self.row_width() < 0 {
            let wanted = format!("at least the {} bytes of an image", self.pixels());
            return bad("state_dim", self.state_dim.to_string(), wanted);
        }
        if let Some(Vocabulary { columns, words, longest, .. }) = &self.text {
            let sorted = words.is_sorted_by(|one, next| one < next);
            if columns.is_empty() || columns.end > self.row_width() as usize || !sorted {
                let wanted =
                    format!("columns among the {} of a state's row, and words in order", self.row_width());
                return bad("text", format!("columns {columns:?} and {} words", words.len()), wanted);
            }
            if !(1..=4096).contains(longest) {
                return bad("text", format!("`longest` {longest}"), "1 to 4,096 words".to_owned());
            }
        }
        Ok(())
    }

    /// Refuses token orders that no decision transformer can have.
    pub(in crate::model) fn check_tokens(&self) -> Result<(), BadField> {
        let order = &self.token_order;
        let counted = |token| order.iter().filter(|other| **other == token).count();
        let whole = [Token::Return, Token::State, Token::Action].into_iter().all(|token| counted(token) == 1);
        if !whole || counted(Token::Reward) > 1 || order[0] == Token::Action {
            let wanted = "return, state and action once each, reward at most once, and the action not first";
            let found = serde_json::to_string(order).unwrap_or_default();
            return Err(BadField { key: "token_order".into(), found, wanted: wanted.to_owned() });
        }
        let tokens = self.context_length.unwrap_or(1).saturating_mul(order.len() as i64);
        if self.global_positions && tokens > self.n_positions {
            let wanted = format!("at least the {tokens} tokens of a window");
            return Err(BadField { key: "n_positions".into(), found: self.n_positions.to_string(), wanted });
        }
        Ok(())
    }

    /// Refuses bins that no action can have.
    fn check_bins(&self) -> Result<(), BadField> {
        let fits = match self.action_kind {
            ActionKind::Binned => self.action_bins.is_some_and(|bins| (2..=65_536).contains(&bins)),
            ActionKind::Continuous | ActionKind::Discrete => self.action_bins.is_none(),
        };
        if !fits {
            let found = self.action_bins.map_or("absent".to_owned(), |bins| bins.to_string());
            let wanted = "2 to 65,536 with action_kind \"binned\", and absent with any other";
            return Err(BadField { key: "action_bins".into(), found, wanted: wanted.to_owned() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_blocks_is_believed_within_reason() {
        let error = PolicyConfig { n_layer: 10_000_000, ..PolicyConfig::default() }.check().unwrap_err();
        assert_eq!(error.to_string(), "`n_layer` is 10000000, expected a number of blocks up to 4,096");
    }
}
