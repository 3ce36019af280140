//! What L2M and LRAM have in common: actions as ids of a vocabulary, discrete ones first and then bins of numbers, and
//! states, returns and rewards of any environment up to a width.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tch::Tensor;

use super::family::{Parts, Shapes};
use super::gpt2;
use super::named::Named;
use crate::adapter::site::Site;
use crate::model::core::bad_field::BadField;
use crate::model::core::bins::Bins;
use crate::model::core::config::{ActionKind, ImageNetwork, PolicyConfig};
use crate::model::core::spaces::Spaces;
use crate::model::core::tokens::Token;
use crate::model::core::weights::{Initial, TensorSpec};
use crate::model::encoders::{ActionTokens, DimensionEncoder, Encoder, ImageEncoder, StateEmbedding};
use crate::model::heads::Heads;

/// In every file of either family.
pub const TOKENS: &str = "embed_action_disc.weight";

const STATE: &str = "embed_state";
const RETURN: &str = "embed_return";
const REWARD: &str = "embed_rewards";
const TIMESTEPS: &str = "embed_timestep.weight";
const NORM: &str = "embed_ln";
const HEAD: &str = "action_net.0";
const IMAGE: &str = "embed_image";
const NETWORK: ImageNetwork = ImageNetwork::ImpalaCnn;

/// Our keys of `config.json`: the greatest widths that the policy serves, where its own are an environment's.
const MOST_STATE: &str = "max_state_dim";
const MOST_ACTION: &str = "max_act_dim";

/// Our key for the ids of the vocabulary, where the environment's actions are not binned.
const VOCABULARY: &str = "vocabulary";

/// The vocabulary of a new policy's actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionIds {
    /// Ids of discrete actions, which come first.
    pub discrete: i64,
    /// Bins of a number.
    pub bins: i64,
}

/// The config of a new policy, as wide as the environment that `config` tells of; `step` are the tokens of a step.
pub fn new_config(model_type: &str, step: &[Token], ids: ActionIds, config: PolicyConfig) -> PolicyConfig {
    let discrete = config.action_kind == ActionKind::Discrete;
    let widest = if discrete { 1 } else { config.act_dim };
    let tokens: i64 = step.iter().map(|token| if *token == Token::Action { widest } else { 1 }).sum();
    let steps = config.context_length.unwrap_or(1);
    let vocabulary = ids.discrete + ids.bins;
    let mut other = Map::new();
    for (key, value) in [
        ("max_length", json!(steps)),
        ("discrete_actions", json!(ids.discrete)),
        ("action_channels", json!(ids.bins)),
        ("global_pos_embds", json!(config.global_positions)),
        (MOST_ACTION, json!(widest)),
    ] {
        other.insert(key.to_owned(), value);
    }
    if config.image_shape.is_none() {
        other.insert(MOST_STATE.to_owned(), json!(config.state_dim));
    }
    if discrete {
        other.insert(VOCABULARY.to_owned(), json!(vocabulary));
    }
    PolicyConfig {
        model_type: model_type.to_owned(),
        action_tanh: false,
        raw_states: true,
        token_order: step.to_vec(),
        n_positions: tokens * steps,
        action_kind: if discrete { ActionKind::Discrete } else { ActionKind::Binned },
        action_bins: (!discrete).then_some(vocabulary),
        ids_before_bins: Some(ids.discrete),
        other,
        ..config
    }
}

/// Puts into the table what the tensors' shapes and the families' custom say; `step` are the tokens of a step.
pub fn complete(table: &mut Map<String, Value>, shapes: &Shapes, step: &[Token]) {
    let size = |name: &str, axis: usize| shapes(name).and_then(|shape| shape.get(axis)).copied();
    let mut fill = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            table.entry(key).or_insert(value);
        }
    };
    let blocks =
        (0..).take_while(|block| shapes(&format!("encoder.h.{block}.ln_1.weight")).is_some()).count();
    fill("hidden_size", size(TOKENS, 1).map(Value::from));
    fill("n_layer", Some(json!(blocks)));
    fill("n_inner", size("encoder.h.0.mlp.c_fc.weight", 1).map(Value::from));
    fill("n_positions", size("encoder.wpe.weight", 0).map(Value::from));
    fill("vocab_size", size("encoder.wte.weight", 0).map(Value::from));
    fill("max_ep_len", size(TIMESTEPS, 0).map(Value::from));
    fill(MOST_STATE, size("embed_state.weight", 1).map(Value::from));
    fill("state_dim", size("embed_state.weight", 1).map(Value::from));
    fill("activation_function", Some(json!("gelu")));
    fill("return_scale", Some(json!(1.0)));
    for key in ["resid_pdrop", "embd_pdrop", "attn_pdrop"] {
        fill(key, Some(json!(0.0)));
    }
    fill("global_pos_embds", Some(json!(false)));
    fill("use_fast_attn", Some(json!(false)));
    let (length, action, ids) =
        (table.get("max_length").cloned(), table.get("act_dim").cloned(), size(TOKENS, 0));
    let discrete = table.get("discrete_actions").and_then(Value::as_i64);
    for (key, value) in [("context_length", length), (MOST_ACTION, action)] {
        if let Some(value) = value {
            table.entry(key).or_insert(value);
        }
    }
    let own = [("action_tanh", json!(false)), ("raw_states", json!(true)), ("token_order", json!(step))];
    for (key, value) in own {
        table.insert(key.to_owned(), value);
    }
    table.insert("global_positions".to_owned(), json!(table.get("global_pos_embds") == Some(&json!(true))));
    if let (Some(ids), Some(discrete)) = (ids, discrete) {
        table.insert("ids_before_bins".to_owned(), json!(discrete));
        if table.get("action_kind").is_none() {
            table.insert("action_kind".to_owned(), json!("binned"));
            table.insert("action_bins".to_owned(), json!(ids - 1));
        }
    }
}

/// Its widths are the environment's own, up to those that it was made for.
pub fn fit(mut config: PolicyConfig, spaces: &Spaces) -> Result<PolicyConfig, BadField> {
    let ids = vocabulary(&config);
    config.image_shape = spaces.image;
    config.state_dim = spaces.numbers + config.pixels();
    config.action_kind = match spaces.action_kind {
        ActionKind::Discrete => ActionKind::Discrete,
        _ => ActionKind::Binned,
    };
    config.action_bins = (config.action_kind == ActionKind::Binned).then_some(ids);
    config.act_dim = spaces.act_dim;
    config.other.insert(VOCABULARY.to_owned(), json!(ids));
    check(&config)?;
    Ok(config)
}

/// V: ids of the vocabulary.
pub fn vocabulary(config: &PolicyConfig) -> i64 {
    config.action_bins.unwrap_or_else(|| size(config, VOCABULARY))
}

/// One of the family's sizes; 0 where it is none.
fn size(config: &PolicyConfig, key: &str) -> i64 {
    config.other.get(key).and_then(Value::as_i64).filter(|size| (0..=1 << 24).contains(size)).unwrap_or(0)
}

/// Refuses fields that neither family has a policy for.
pub fn check(config: &PolicyConfig) -> Result<(), BadField> {
    let bad =
        |key: &'static str, found: String, wanted: String| Err(BadField { key: key.into(), found, wanted });
    let found = |key: &str| config.other.get(key).map_or("absent".to_owned(), Value::to_string);
    let before = config.ids_before_bins.unwrap_or(-1);
    if !(0..vocabulary(config) - 1).contains(&before) {
        let wanted = format!("ids before at least two bins among the {} of {TOKENS}", vocabulary(config));
        return bad("discrete_actions", found("discrete_actions"), wanted);
    }
    let channels = size(config, "action_channels");
    if channels + before != vocabulary(config) {
        let wanted = format!("{}, with which {TOKENS} ends", vocabulary(config) - before);
        return bad("action_channels", found("action_channels"), wanted);
    }
    if size(config, MOST_ACTION) < 1 {
        return bad("act_dim", found("act_dim"), "the greatest width of an action".to_owned());
    }
    if config.context_length.is_none() {
        return bad("max_length", found("max_length"), "steps of a window".to_owned());
    }
    for key in ["relative_pos_embds", "stochastic_policy"] {
        if config.other.get(key).is_some_and(|value| *value != json!(false)) {
            return bad(key, found(key), "false: nothing else is implemented".to_owned());
        }
    }
    if config.image_shape.is_some() && config.row_width() > 0 {
        let beside = format!("{} numbers beside an image", config.row_width());
        return bad("state_dim", beside, "an image or numbers alone".to_owned());
    }
    let normalised = config.state_mean.as_ref().map_or(config.row_width(), |mean| mean.len() as i64);
    if normalised != config.row_width() {
        let wanted = format!("{normalised}, the numbers that `state_mean` normalises");
        return bad("state_dim", config.row_width().to_string(), wanted);
    }
    let most = size(config, MOST_STATE);
    if config.image_shape.is_none() && config.state_dim > most {
        return bad("state_dim", config.state_dim.to_string(), format!("at most {most}"));
    }
    let (most, what) = match config.action_kind {
        ActionKind::Discrete => (before, "discrete actions"),
        _ => (size(config, MOST_ACTION), "numbers"),
    };
    if config.act_dim > most || config.action_kind == ActionKind::Continuous {
        return bad("act_dim", config.act_dim.to_string(), format!("at most {most} {what}"));
    }
    Ok(())
}

/// The tensors of either family; the head has `outputs` of them.
pub fn layout(config: &PolicyConfig, outputs: i64) -> Vec<TensorSpec> {
    let width = config.hidden_size;
    let normal = Initial::Normal(config.initializer_range);
    let (zero, one) = (Initial::Constant(0.0), Initial::Constant(1.0));
    let mut layout = gpt2::block_tensors(config);
    let mut add = |name: String, shape: &[i64], initial| {
        layout.push(TensorSpec { name, shape: shape.to_vec(), initial });
    };
    add("encoder.wpe.weight".to_owned(), &[config.n_positions, width], normal);
    for norm in ["encoder.ln_f", NORM] {
        add(format!("{norm}.weight"), &[width], one);
        add(format!("{norm}.bias"), &[width], zero);
    }
    add(TIMESTEPS.to_owned(), &[config.max_ep_len, width], normal);
    add(TOKENS.to_owned(), &[vocabulary(config) + 1, width], normal);
    for (name, input, output) in [(RETURN, 1, width), (REWARD, 1, width), (HEAD, width, outputs)] {
        add(format!("{name}.weight"), &[output, input], normal);
        add(format!("{name}.bias"), &[output], zero);
    }
    match config.image_shape {
        None => {
            add(format!("{STATE}.weight"), &[width, size(config, MOST_STATE)], normal);
            add(format!("{STATE}.bias"), &[width], zero);
        }
        Some(image) => {
            add(format!("{IMAGE}.linear.0.weight"), &[width, NETWORK.features(image)], normal);
            add(format!("{IMAGE}.linear.0.bias"), &[width], zero);
            for (index, shape) in NETWORK.convolutions(image[0]).into_iter().enumerate() {
                layout.extend(shape.tensors(&convolution(index)));
            }
        }
    }
    layout
}

/// The name of the encoder's convolution of this number.
fn convolution(index: usize) -> String {
    let (stage, within) = (index / 5, index % 5);
    match within.checked_sub(1) {
        None => format!("{IMAGE}.cnn.{stage}.conv"),
        Some(inner) => format!("{IMAGE}.cnn.{stage}.residual_{}.conv_{}", inner / 2, inner % 2),
    }
}

/// Parts for other states than the policy's, and what is not read for acting.
pub fn is_optional(name: &str) -> bool {
    let parts = ["embed_state.", "embed_image.", "predict_", "encoder.wte."];
    parts.iter().any(|part| name.starts_with(part))
}

pub fn is_own(name: &str) -> bool {
    ["encoder.", "embed_", "predict_", "action_net."].iter().any(|part| name.starts_with(part))
}

/// No two of them share an input.
pub fn sites(config: &PolicyConfig, outputs: i64) -> Vec<Site> {
    let width = config.hidden_size;
    let mut sites = Vec::new();
    match config.image_shape {
        None => sites.push(Site::linear(STATE, [size(config, MOST_STATE), width])),
        Some(image) => {
            for (index, shape) in NETWORK.convolutions(image[0]).into_iter().enumerate() {
                let kernel = [shape.input, shape.kernel, shape.kernel];
                let own = Site::linear(convolution(index), [kernel.iter().product(), shape.output]);
                sites.push(Site { kernel: Some(kernel), ..own });
            }
            sites.push(Site::linear(format!("{IMAGE}.linear.0"), [NETWORK.features(image), width]));
        }
    }
    sites.extend([Site::linear(RETURN, [1, width]), Site::linear(REWARD, [1, width])]);
    sites.extend(gpt2::sites(config));
    sites.push(Site::linear(HEAD, [width, outputs]));
    Site::group(&mut sites, &[]);
    sites
}

/// The greatest width of an action.
pub fn most_actions(config: &PolicyConfig) -> i64 {
    size(config, MOST_ACTION)
}

/// The parts; `with_actions` says whether the context holds actions, a token a dimension, and timesteps.
pub fn build(config: &PolicyConfig, weights: &BTreeMap<String, Tensor>, with_actions: bool) -> Parts {
    let named = Named(weights);
    let tensor = |name: &str| named.tensor(name);
    let module = |name: &str| named.module(name);
    let state = match config.image_shape {
        None => StateEmbedding::Numbers(module(STATE)),
        Some(image) => StateEmbedding::Image(Box::new(ImageEncoder {
            network: NETWORK,
            symbols: None,
            convolutions: NETWORK
                .convolutions(image[0])
                .into_iter()
                .enumerate()
                .map(|(index, shape)| shape.build(&convolution(index), weights))
                .collect(),
            gates: Vec::new(),
            projection: module(&format!("{IMAGE}.linear.0")),
            ends_with_relu: true,
        })),
    };
    let binned = config.action_kind == ActionKind::Binned;
    let actions = with_actions.then(|| ActionTokens {
        table: tensor(TOKENS),
        count: if binned { most_actions(config) } else { 1 },
        bins: binned.then(|| Bins::of(config)),
    });
    let flag = |key: &str| config.other.get(key) == Some(&json!(true));
    Parts {
        encoder: Encoder::Dimensions(Box::new(DimensionEncoder {
            state,
            returns: module(RETURN),
            actions,
            rewards: module(REWARD),
            timesteps: with_actions.then(|| tensor(TIMESTEPS)),
            norm: named.norm(NORM, 1e-5),
            positions: tensor("encoder.wpe.weight"),
            places: config.global_positions,
            sees_padding: flag("use_fast_attn"),
            dropout: config.embd_pdrop,
        })),
        trunk: gpt2::trunk(config, weights),
        heads: Heads {
            hidden: Vec::new(),
            action: module(HEAD),
            reads_per_step: if with_actions && binned { config.act_dim } else { 1 },
            state: None,
            returns: None,
            image: None,
            text: None,
        },
    }
}
