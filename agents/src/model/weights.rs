//! A policy's tensors by name: which there must be, of what shape, and how a new policy draws them.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::config::PolicyConfig;
use crate::site::{Head, Site, Token};

/// How a new policy's tensor begins.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// Normal with this standard deviation.
    Normal(f64),
    /// Every number the same.
    Constant(f64),
}

/// Every tensor of a policy with this config: name, shape, and how a new one begins.
///
/// GPT-2's scheme: normal weights, zero biases, and the last map of each residual branch smaller by
/// √(2·blocks).
pub fn layout(config: &PolicyConfig) -> Vec<(String, Vec<i64>, Start)> {
    let (width, inner) = (config.hidden_size, config.inner());
    let normal = Start::Normal(config.initializer_range);
    let last = Start::Normal(config.initializer_range / (2.0 * config.n_layer as f64).sqrt());
    let (zero, one) = (Start::Constant(0.0), Start::Constant(1.0));

    let mut layout = Vec::new();
    let mut add = |name: String, shape: &[i64], start| layout.push((name, shape.to_vec(), start));
    add("encoder.wte.weight".to_owned(), &[config.vocab_size, width], normal);
    add("encoder.wpe.weight".to_owned(), &[config.n_positions, width], normal);
    for block in 0..config.n_layer {
        let maps = [
            ("attn.c_attn", width, 3 * width, normal),
            ("attn.c_proj", width, width, last),
            ("mlp.c_fc", width, inner, normal),
            ("mlp.c_proj", inner, width, last),
        ];
        for (map, input, output, start) in maps {
            add(format!("encoder.h.{block}.{map}.weight"), &[input, output], start);
            add(format!("encoder.h.{block}.{map}.bias"), &[output], zero);
        }
        for norm in ["ln_1", "ln_2"] {
            add(format!("encoder.h.{block}.{norm}.weight"), &[width], one);
            add(format!("encoder.h.{block}.{norm}.bias"), &[width], zero);
        }
    }
    for norm in ["encoder.ln_f", "embed_ln"] {
        add(format!("{norm}.weight"), &[width], one);
        add(format!("{norm}.bias"), &[width], zero);
    }
    add("embed_timestep.weight".to_owned(), &[config.max_ep_len, width], normal);
    for token in &config.token_order {
        let input = match token {
            Token::Return | Token::Reward => 1,
            Token::State => config.state_dim,
            Token::Action => config.act_dim,
        };
        add(format!("{}.weight", Site::Embed(*token)), &[width, input], normal);
        add(format!("{}.bias", Site::Embed(*token)), &[width], zero);
    }
    for (head, output) in
        [(Head::State, config.state_dim), (Head::Action, config.action_outputs()), (Head::Return, 1)]
    {
        add(format!("{}.weight", Site::Predict(head)), &[output, width], normal);
        add(format!("{}.bias", Site::Predict(head)), &[output], zero);
    }
    layout
}

/// Draws the tensors of a new policy from torch's generator.
pub fn draw(config: &PolicyConfig, device: Device) -> BTreeMap<String, Tensor> {
    let mut weights = BTreeMap::new();
    for (name, shape, start) in layout(config) {
        let tensor = match start {
            Start::Normal(std) => Tensor::empty(shape, (Kind::Float, device)).normal_(0.0, std),
            Start::Constant(value) => Tensor::full(shape, value, (Kind::Float, device)),
        };
        weights.insert(name, tensor);
    }
    weights
}

/// Whether a name belongs to a buffer that old checkpoints carry and no model reads.
pub fn is_mask_buffer(name: &str) -> bool {
    name.starts_with("encoder.h.") && (name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"))
}

/// Whether a name is of a part that decision transformers have, though not this one.
pub fn is_own(name: &str) -> bool {
    ["encoder.", "embed_", "predict_"].iter().any(|part| name.starts_with(part))
}
