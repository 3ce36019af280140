//! Vintix (arXiv 2501.19400), an in-context policy over many tasks, as dunnolab/vintix has it.
//!
//! A step is one token: the observation, and the action and reward before it; a context goes on over episodes of one
//! task. Observations, actions and heads belong to groups of tasks with the same widths, statistics to tasks. The
//! trunk's attention has ALiBi and norms of queries and keys. Actions are the environment's own numbers.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tch::Tensor;

use super::family::{Family, Parts, Shapes};
use super::named::Named;
use crate::adapter::site::Site;
use crate::model::core::bad_field::BadField;
use crate::model::core::config::PolicyConfig;
use crate::model::core::tokens::Token;
use crate::model::core::weights::{Initial, TensorSpec};
use crate::model::encoders::{Encoder, NormedLayer, TransitionEncoder};
use crate::model::heads::Heads;
use crate::model::trunk::{Alibi, Attention, Block, QueriesKeysValues, Trunk};

const MODEL_TYPE: &str = "vintix";

pub(super) const FAMILY: Family = Family {
    model_types: &[MODEL_TYPE],
    aliases: &[],
    complete: Some(complete),
    is_whole_without_config: false,
    tasks_file: Some("metadata.json"),
    fit: None,
    check,
    layout,
    tensor_aliases: &[],
    known_tensor: NO_ACTION,
    is_buffer: |_| false,
    is_optional: |_| false,
    is_own,
    sites,
    embedding_tables: &[],
    build,
};

/// In place of the action before an episode's first step: `[1, F]`.
const NO_ACTION: &str = "encoder.prev_acs_padding";
/// In place of the reward before an episode's first step: `[1, G]`.
const NO_REWARD: &str = "encoder.prev_rew_padding";

/// The linear layers of a block.
const BLOCK_MODULES: [&str; 4] = ["attention.in_proj", "attention.out_proj", "mlp.fc", "mlp.proj"];

/// The linear layers of an encoder of observations or actions, and the norms behind them.
const ENCODER_LAYERS: [(&str, &str); 2] = [("layers.0", "layers.2"), ("layers.3", "layers.5")];

/// The linear layers of a head before its last.
const HEAD_LAYERS: [&str; 3] = ["layers.0", "layers.2", "layers.4"];

/// Keys of `config.json`, with those that [`PolicyConfig`] has for them.
const SIZES: [(&str, &str); 5] = [
    ("hidden_dim", "hidden_size"),
    ("transformer_depth", "n_layer"),
    ("transformer_heads", "n_head"),
    ("intermediate_size", "n_inner"),
    ("context_len", "context_length"),
];

/// Widths of a token's parts: E, F and G.
const PARTS: [&str; 3] = ["observation_emb_dim", "action_emb_dim", "reward_emb_dim"];

/// Choices of the reference that this program has made one way.
const IMPLEMENTED: [(&str, Value); 6] = [
    ("bias", Value::Bool(true)),
    ("parallel_residual", Value::Bool(false)),
    ("shared_attention_norm", Value::Bool(false)),
    ("inner_ep_pos_enc", Value::Bool(false)),
    ("norm_acs", Value::Bool(false)),
    ("norm_obs", Value::Bool(true)),
];

/// The same of classes.
const CLASSES: [(&str, &str); 2] = [("norm_class", "LayerNorm"), ("mlp_class", "GptNeoxMLP")];

/// Timesteps that a policy knows; it reads no more of one than whether it is the first.
const TIMESTEPS: i64 = 1 << 24;

/// What the reference's keys mean in ours; they stay in the table, so that the reference can read what is written.
fn complete(table: &mut Map<String, Value>, _: &Shapes) {
    for (theirs, ours) in SIZES {
        if let Some(value) = table.get(theirs).cloned() {
            table.insert(ours.to_owned(), value);
        }
    }
    for (theirs, ours) in [("attn_dropout", "attn_pdrop"), ("residual_dropout", "resid_pdrop")] {
        let value = table.get(theirs).cloned().unwrap_or(json!(0.0));
        table.insert(ours.to_owned(), value);
    }
    let ours = [
        ("model_type", json!(MODEL_TYPE)),
        ("embd_pdrop", json!(0.0)),
        ("activation_function", json!("gelu")),
        ("action_tanh", json!(false)),
        ("raw_actions", json!(true)),
        ("token_order", json!(["state"])),
        ("max_ep_len", json!(TIMESTEPS)),
    ];
    for (key, value) in ours {
        table.insert(key.to_owned(), value);
    }
}

fn check(config: &PolicyConfig) -> Result<(), BadField> {
    let bad = |key: &str, found: String, wanted: &str| {
        Err(BadField { key: key.to_owned().into(), found, wanted: wanted.to_owned() })
    };
    let found = |key: &str| config.other.get(key).map_or("absent".to_owned(), Value::to_string);
    for key in SIZES.map(|(theirs, _)| theirs).into_iter().chain(PARTS) {
        if part(config, key) < 1 {
            return bad(key, found(key), "a size of at least 1");
        }
    }
    if PARTS.iter().map(|key| part(config, key)).sum::<i64>() != config.hidden_size {
        let sum = PARTS.map(|key| part(config, key).to_string()).join(" + ");
        return bad("hidden_dim", config.hidden_size.to_string(), &format!("{sum}, the widths of its parts"));
    }
    for (key, implemented) in IMPLEMENTED {
        if config.other.get(key) != Some(&implemented) {
            return bad(key, found(key), &format!("{implemented}: nothing else is implemented"));
        }
    }
    for (key, implemented) in CLASSES {
        if config.other.get(key).and_then(Value::as_str) != Some(implemented) {
            return bad(key, found(key), &format!("\"{implemented}\": nothing else is implemented"));
        }
    }
    if !config.other.get("normalize_qk").is_some_and(Value::is_boolean) {
        return bad("normalize_qk", found("normalize_qk"), "true or false");
    }
    if config.token_order != [Token::State] || !config.raw_actions || config.image_shape.is_some() {
        return bad(
            "token_order",
            format!("{:?}", config.token_order),
            "one token a step, of a state of numbers",
        );
    }
    Ok(())
}

/// One of the reference's sizes; 0 where it is none.
fn part(config: &PolicyConfig, key: &str) -> i64 {
    config.other.get(key).and_then(Value::as_i64).filter(|size| (1..=1 << 24).contains(size)).unwrap_or(0)
}

fn normalises_queries_and_keys(config: &PolicyConfig) -> bool {
    config.other.get("normalize_qk").and_then(Value::as_bool) == Some(true)
}

/// Every group with the widths of its observations and actions.
fn groups(config: &PolicyConfig) -> BTreeMap<&str, [i64; 2]> {
    let widths = config
        .tasks
        .values()
        .map(|task| (task.group_name.as_str(), [task.observation_width(), task.action_dim]));
    widths.collect()
}

/// PyTorch's own scale of linear layers, as normal numbers.
fn layout(config: &PolicyConfig) -> Vec<TensorSpec> {
    let width = config.hidden_size;
    let [observation, action, reward] = PARTS.map(|key| part(config, key));
    let (zero, one) = (Initial::Constant(0.0), Initial::Constant(1.0));
    let mut layout = Vec::new();
    let mut add = |name: String, shape: &[i64], initial| {
        layout.push(TensorSpec { name, shape: shape.to_vec(), initial });
    };
    add(NO_ACTION.to_owned(), &[1, action], zero);
    add(NO_REWARD.to_owned(), &[1, reward], zero);
    for (name, [input, output]) in linear_layers(config) {
        let initial = Initial::Normal((1.0 / (3.0 * input as f64)).sqrt());
        add(format!("{name}.weight"), &[output, input], initial);
        add(format!("{name}.bias"), &[output], zero);
    }
    let mut norms = vec![("transformer.ln_f".to_owned(), width)];
    for group in groups(config).keys() {
        for (_, norm) in ENCODER_LAYERS {
            norms.push((format!("encoder.obs_encoders.{group}.{norm}"), observation));
            norms.push((format!("encoder.acs_encoders.{group}.{norm}"), action));
        }
    }
    for block in 0..config.n_layer {
        let own = ["norm1", "norm2"].map(|norm| (format!("transformer.blocks.{block}.{norm}"), width));
        norms.extend(own);
        if normalises_queries_and_keys(config) {
            let head = width / config.n_head;
            let own = ["q_norm", "k_norm"];
            norms.extend(own.map(|norm| (format!("transformer.blocks.{block}.attention.{norm}"), head)));
        }
    }
    for (name, width) in norms {
        add(format!("{name}.weight"), &[width], one);
        add(format!("{name}.bias"), &[width], zero);
    }
    layout
}

/// Every linear layer with its input and output widths, of all groups, in the order of the forward pass.
fn linear_layers(config: &PolicyConfig) -> Vec<(String, [i64; 2])> {
    let mut layers = Vec::new();
    for (group, widths) in groups(config) {
        layers.extend(encoder_layers(config, group, widths));
    }
    layers.extend(block_layers(config));
    for (group, widths) in groups(config) {
        layers.extend(head_layers(config, group, widths));
    }
    layers
}

fn encoder_layers(config: &PolicyConfig, group: &str, [state, action]: [i64; 2]) -> Vec<(String, [i64; 2])> {
    let [observation_width, action_width, reward_width] = PARTS.map(|key| part(config, key));
    let [(first, _), (second, _)] = ENCODER_LAYERS;
    vec![
        (format!("encoder.obs_encoders.{group}.{first}"), [state, observation_width]),
        (format!("encoder.obs_encoders.{group}.{second}"), [observation_width, observation_width]),
        (format!("encoder.acs_encoders.{group}.{first}"), [action, action_width]),
        (format!("encoder.acs_encoders.{group}.{second}"), [action_width, action_width]),
        (format!("encoder.rews_encoders.{group}.layers.0"), [1, reward_width]),
    ]
}

fn block_layers(config: &PolicyConfig) -> Vec<(String, [i64; 2])> {
    let (width, inner) = (config.hidden_size, config.inner());
    let shapes = [[width, 3 * width], [width, width], [width, inner], [inner, width]];
    let of_block = |block: i64| {
        let names = BLOCK_MODULES.map(|module| format!("transformer.blocks.{block}.{module}"));
        names.into_iter().zip(shapes)
    };
    (0..config.n_layer).flat_map(of_block).collect()
}

fn head_layers(config: &PolicyConfig, group: &str, [_, action]: [i64; 2]) -> Vec<(String, [i64; 2])> {
    let width = config.hidden_size;
    let hidden = HEAD_LAYERS.map(|layer| (format!("head.acs_decoders.{group}.{layer}"), [width, width]));
    hidden.into_iter().chain([(format!("head.acs_decoders.{group}.layers.6"), [width, action])]).collect()
}

fn is_own(name: &str) -> bool {
    ["encoder.", "transformer.", "head."].iter().any(|part| name.starts_with(part))
}

/// Those of the task's own group; no two of them share an input.
fn sites(config: &PolicyConfig) -> Vec<Site> {
    let (group, widths) = (config.group(), [config.state_dim, config.act_dim]);
    let blocks = block_layers(config).into_iter().map(|layer| (layer, true));
    let encoders = encoder_layers(config, group, widths).into_iter().map(|layer| (layer, false));
    let head = head_layers(config, group, widths).into_iter().map(|layer| (layer, false));
    let all = encoders.chain(blocks).chain(head);
    let mut sites: Vec<Site> = all
        .map(|((name, shape), in_block)| Site { adapted_by_default: in_block, ..Site::linear(name, shape) })
        .collect();
    Site::group(&mut sites, &[]);
    sites
}

fn build(config: &PolicyConfig, weights: &BTreeMap<String, Tensor>) -> Parts {
    let named = Named(weights);
    let tensor = |name: &str| named.tensor(name);
    let module = |name: &str| named.module(name);
    let norm = |name: &str| named.norm(name, config.layer_norm_epsilon);
    let head_width = config.hidden_size / config.n_head;
    let block = |index: usize| {
        let name = |part: &str| format!("transformer.blocks.{index}.{part}");
        let [attention_in, attention_out, mlp_in, mlp_out] = BLOCK_MODULES.map(|part| module(&name(part)));
        let norms = ["attention.q_norm", "attention.k_norm"];
        Block {
            index,
            attention_norm: norm(&name("norm1")),
            attention_in: QueriesKeysValues::Joint(attention_in),
            query_key_norms: normalises_queries_and_keys(config)
                .then(|| Box::new(norms.map(|part| norm(&name(part))))),
            attention_out,
            attention: Attention {
                heads: config.n_head,
                score_scale: (head_width as f64).sqrt().recip(),
                dropout: config.attn_pdrop,
                window: None,
            },
            mlp_norm: norm(&name("norm2")),
            mlp_in,
            activation: config.activation_function,
            mlp_out,
            residual_dropout: config.resid_pdrop,
        }
    };
    let group = config.group();
    let layers = |of: &str| {
        ENCODER_LAYERS.map(|(linear, behind)| NormedLayer {
            linear: module(&format!("encoder.{of}.{group}.{linear}")),
            norm: norm(&format!("encoder.{of}.{group}.{behind}")),
        })
    };
    let (blocks, last_norm) = ((0..config.n_layer as usize).map(block).collect(), norm("transformer.ln_f"));
    let alibi = Alibi::new(config.n_head, last_norm.weight.device());
    Parts {
        encoder: Encoder::Transition(Box::new(TransitionEncoder {
            observation: layers("obs_encoders"),
            action: layers("acs_encoders"),
            reward: module(&format!("encoder.rews_encoders.{group}.layers.0")),
            no_action: tensor(NO_ACTION),
            no_reward: tensor(NO_REWARD),
        })),
        trunk: Trunk::new(blocks, last_norm).with_alibi(alibi),
        heads: Heads {
            hidden: HEAD_LAYERS.map(|layer| module(&format!("head.acs_decoders.{group}.{layer}"))).into(),
            reads_per_step: 1,
            action: module(&format!("head.acs_decoders.{group}.layers.6")),
            state: None,
            returns: None,
            image: None,
            text: None,
        },
    }
}
