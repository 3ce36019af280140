//! The decision transformer (arXiv 2106.01345) as Hugging Face's `DecisionTransformerModel` has it, and its
//! relatives with other token orders, positions or binned actions, or states of images and texts, which transformers
//! does not compute.
//!
//! A step is a return-to-go, a state and an action, the action read at the token before its own; the trunk is
//! GPT-2's, whose linear layers keep their weights as `[in, out]`.

use std::collections::BTreeMap;

use tch::Tensor;

use super::family::{Family, Parts};
use super::gpt2;
use super::named::Named;
use super::observation;
use crate::adapter::site::Site;
use crate::model::core::bad_field::BadField;
use crate::model::core::config::{ActionKind, PolicyConfig};
use crate::model::core::tokens::Token;
use crate::model::core::weights::{Initial, TensorSpec};
use crate::model::encoders::{
    Embedding, Encoder, ObservationEncoder, Positions, StepEncoder, Timesteps, TokenEncoder,
};
use crate::model::heads::Heads;

/// `model_type` of what transformers' `DecisionTransformerModel` computes.
const HUGGING_FACE: &str = "decision_transformer";

/// `model_type` of what it does not, so that it does not try.
const OWN: &str = "eva_rl_decision_transformer";

pub(super) const FAMILY: Family = Family {
    model_types: &[HUGGING_FACE, OWN],
    aliases: &[
        ("max_position_embeddings", "n_positions"),
        ("num_attention_heads", "n_head"),
        ("num_hidden_layers", "n_layer"),
    ],
    complete: None,
    is_whole_without_config: false,
    tasks_file: None,
    fit: None,
    check,
    layout,
    tensor_aliases: &[],
    known_tensor: "embed_timestep.weight",
    is_buffer: gpt2::is_buffer,
    is_optional: |_| false,
    is_own,
    sites,
    embedding_tables: &["embed_timestep", "encoder.wpe", "encoder.wte"],
    build,
};

/// The heads.
const ACTION_HEAD: &str = "predict_action.0";
const STATE_HEAD: &str = "predict_state";
const RETURN_HEAD: &str = "predict_return";

fn embedding(token: Token) -> &'static str {
    match token {
        Token::Return => "embed_return",
        Token::State => "embed_state",
        Token::Action => "embed_action",
        Token::Reward => "embed_reward",
    }
}

fn token_width(config: &PolicyConfig, token: Token) -> i64 {
    match token {
        Token::Return | Token::Reward => 1,
        Token::State => config.numbers(),
        Token::Action => config.act_dim,
    }
}

/// Whether a state is numbers alone, and predicted as such.
fn reads_numbers_alone(config: &PolicyConfig) -> bool {
    config.image_shape.is_none() && config.text.is_none()
}

/// The tokens that linear layers embed.
fn linear_tokens(config: &PolicyConfig) -> impl Iterator<Item = Token> {
    config.token_order.iter().copied().filter(|token| token_width(config, *token) > 0)
}

/// The heads and their widths.
fn heads(config: &PolicyConfig) -> Vec<(&'static str, i64)> {
    let mut heads = vec![(ACTION_HEAD, config.action_outputs()), (RETURN_HEAD, 1)];
    if reads_numbers_alone(config) {
        heads.insert(1, (STATE_HEAD, config.state_dim));
    }
    heads
}

/// The `model_type` that says who computes a policy of this config.
fn model_type(config: &PolicyConfig) -> &'static str {
    let plain = config.has_original_order() && !config.global_positions && reads_numbers_alone(config);
    if plain && config.action_kind != ActionKind::Binned { HUGGING_FACE } else { OWN }
}

/// The config of a new policy of this family: `model_type` says who can compute it.
pub fn new_config(mut config: PolicyConfig) -> PolicyConfig {
    config.model_type = model_type(&config).to_owned();
    if config.model_type != HUGGING_FACE {
        config.other.remove("architectures"); // transformers has no class for it
    }
    config
}

fn check(config: &PolicyConfig) -> Result<(), BadField> {
    config.check_tokens()?;
    observation::check(config)?;
    let wanted = model_type(config);
    if config.model_type != wanted {
        let found = format!("\"{}\"", config.model_type);
        return Err(BadField { key: "model_type".into(), found, wanted: format!("\"{wanted}\"") });
    }
    Ok(())
}

/// GPT-2's initialisation.
fn layout(config: &PolicyConfig) -> Vec<TensorSpec> {
    let width = config.hidden_size;
    let normal = Initial::Normal(config.initializer_range);
    let (zero, one) = (Initial::Constant(0.0), Initial::Constant(1.0));

    let table = |name: &str, rows: i64| TensorSpec {
        name: name.to_owned(),
        shape: vec![rows, width],
        initial: normal,
    };
    let mut layout =
        vec![table("encoder.wte.weight", config.vocab_size), table("encoder.wpe.weight", config.n_positions)];
    layout.extend(gpt2::block_tensors(config));
    let mut add = |name: String, shape: &[i64], initial| {
        layout.push(TensorSpec { name, shape: shape.to_vec(), initial });
    };
    for norm in ["encoder.ln_f", "embed_ln"] {
        add(format!("{norm}.weight"), &[width], one);
        add(format!("{norm}.bias"), &[width], zero);
    }
    add("embed_timestep.weight".to_owned(), &[config.max_ep_len, width], normal);
    for token in linear_tokens(config) {
        add(format!("{}.weight", embedding(token)), &[width, token_width(config, token)], normal);
        add(format!("{}.bias", embedding(token)), &[width], zero);
    }
    let mut heads = heads(config);
    heads.sort_by_key(|(head, _)| *head != STATE_HEAD); // drawn first, as it always was
    for (head, output) in heads {
        add(format!("{head}.weight"), &[output, width], normal);
        add(format!("{head}.bias"), &[output], zero);
    }
    layout.extend(observation::layout(config));
    layout
}

fn is_own(name: &str) -> bool {
    ["encoder.", "embed_", "predict_"].iter().any(|part| name.starts_with(part))
}

/// No two of them share an input: a block's queries, keys and values are one layer.
fn sites(config: &PolicyConfig) -> Vec<Site> {
    let width = config.hidden_size;
    let mut sites: Vec<Site> = linear_tokens(config)
        .map(|token| Site::linear(embedding(token), [token_width(config, token), width]))
        .collect();
    sites.extend(observation::sites(config));
    sites.extend(gpt2::sites(config));
    sites.extend(heads(config).into_iter().map(|(head, output)| Site::linear(head, [width, output])));
    Site::group(&mut sites, &[]);
    sites
}

fn build(config: &PolicyConfig, weights: &BTreeMap<String, Tensor>) -> Parts {
    let named = Named(weights);
    let tensor = |name: &str| named.tensor(name);
    let module = |name: &str| named.module(name);
    let tokens = config.token_order.iter().map(|token| {
        let linear = (token_width(config, *token) > 0).then(|| module(embedding(*token)));
        let embedding = match linear {
            Some(linear) if *token != Token::State || reads_numbers_alone(config) => {
                Embedding::Linear(linear)
            }
            numbers => Embedding::Observation(Box::new(ObservationEncoder {
                numbers,
                text: observation::text(config, weights),
                image: observation::image(config, weights),
            })),
        };
        TokenEncoder { token: *token, embedding, tanh: false }
    });
    Parts {
        encoder: Encoder::Parts(StepEncoder {
            tokens: tokens.collect(),
            timesteps: Some(tensor("embed_timestep.weight")),
            timing: Timesteps::OfStep,
            positions: tensor("encoder.wpe.weight"),
            positioning: if config.global_positions { Positions::InWindow } else { Positions::First },
            norm: Some(named.norm("embed_ln", 1e-5)),
            dropout: config.embd_pdrop,
            words: None,
        }),
        trunk: gpt2::trunk(config, weights),
        heads: Heads {
            hidden: Vec::new(),
            reads_per_step: 1,
            action: module(ACTION_HEAD),
            state: reads_numbers_alone(config).then(|| module(STATE_HEAD)),
            returns: Some(module(RETURN_HEAD)),
            image: None,
            text: None,
        },
    }
}
