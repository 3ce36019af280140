//! GPT-2's trunk, as transformers names its tensors: linear layers that keep their weights as `[in, out]`.

use std::collections::BTreeMap;

use tch::Tensor;

use super::named::Named;
use crate::adapter::site::Site;
use crate::model::core::config::PolicyConfig;
use crate::model::core::weights::{Initial, TensorSpec};
use crate::model::trunk::{Attention, Block, QueriesKeysValues, Trunk};

/// The linear layers of a block.
const BLOCK_MODULES: [&str; 4] = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"];

/// The tensors of the blocks with GPT-2's initialisation: normal weights, zero biases, and the last layer of each
/// residual branch smaller by √(2·blocks).
pub fn block_tensors(config: &PolicyConfig) -> Vec<TensorSpec> {
    let (width, inner) = (config.hidden_size, config.inner());
    let normal = Initial::Normal(config.initializer_range);
    let last = Initial::Normal(config.initializer_range / (2.0 * config.n_layer as f64).sqrt());
    let (zero, one) = (Initial::Constant(0.0), Initial::Constant(1.0));
    let mut layout = Vec::new();
    let mut add = |name: String, shape: &[i64], initial| {
        layout.push(TensorSpec { name, shape: shape.to_vec(), initial });
    };
    for block in 0..config.n_layer {
        let shapes =
            [(width, 3 * width, normal), (width, width, last), (width, inner, normal), (inner, width, last)];
        for (module, (input, output, initial)) in BLOCK_MODULES.into_iter().zip(shapes) {
            add(format!("encoder.h.{block}.{module}.weight"), &[input, output], initial);
            add(format!("encoder.h.{block}.{module}.bias"), &[output], zero);
        }
        for norm in ["ln_1", "ln_2"] {
            add(format!("encoder.h.{block}.{norm}.weight"), &[width], one);
            add(format!("encoder.h.{block}.{norm}.bias"), &[width], zero);
        }
    }
    layout
}

/// Masks, which old checkpoints carry.
pub fn is_buffer(name: &str) -> bool {
    name.starts_with("encoder.h.") && (name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"))
}

/// The blocks' layers, which get adapters where nobody names others; their groups are to be numbered.
pub fn sites(config: &PolicyConfig) -> Vec<Site> {
    let (width, inner) = (config.hidden_size, config.inner());
    let shapes = [[width, 3 * width], [width, width], [width, inner], [inner, width]];
    let of_block = |block: i64| {
        BLOCK_MODULES.into_iter().zip(shapes).map(move |(module, shape)| Site {
            fan_in_fan_out: true,
            adapted_by_default: true,
            ..Site::linear(format!("encoder.h.{block}.{module}"), shape)
        })
    };
    (0..config.n_layer).flat_map(of_block).collect()
}

/// The trunk of tensors by name.
pub fn trunk(config: &PolicyConfig, weights: &BTreeMap<String, Tensor>) -> Trunk {
    let named = Named(weights);
    let module = |name: &str| named.layer(name, true);
    let norm = |name: &str| named.norm(name, config.layer_norm_epsilon);
    let by_width = if config.scale_attn_weights {
        ((config.hidden_size / config.n_head) as f64).sqrt().recip()
    } else {
        1.0
    };
    let block = |index: usize| {
        let [attention_in, attention_out, mlp_in, mlp_out] =
            BLOCK_MODULES.map(|name| module(&format!("encoder.h.{index}.{name}")));
        let [attention_norm, mlp_norm] =
            ["ln_1", "ln_2"].map(|name| norm(&format!("encoder.h.{index}.{name}")));
        let by_depth = if config.scale_attn_by_inverse_layer_idx { index as f64 + 1.0 } else { 1.0 };
        Block {
            index,
            attention_norm,
            attention_in: QueriesKeysValues::Joint(attention_in),
            query_key_norms: None,
            attention_out,
            attention: Attention {
                heads: config.n_head,
                score_scale: by_width / by_depth,
                dropout: config.attn_pdrop,
                window: None,
            },
            mlp_norm,
            mlp_in,
            activation: config.activation_function,
            mlp_out,
            residual_dropout: config.resid_pdrop,
        }
    };
    Trunk::new((0..config.n_layer as usize).map(block).collect(), norm("encoder.ln_f"))
}
