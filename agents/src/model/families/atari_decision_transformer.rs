//! The decision transformer over Atari's frames, as kzl/decision-transformer has it (arXiv 2106.01345, section 4.1).
//!
//! A step is a return-to-go, four stacked frames and an action; frames are read by the DQN's convolutions, all three
//! tokens end with tanh, and a window has one timestep. The trunk is minGPT's, with a layer each for queries, keys
//! and values. A state dict says every size but the number of attention heads.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tch::Tensor;

use super::family::{Family, Parts, Shapes};
use super::named::Named;
use crate::adapter::site::Site;
use crate::model::core::bad_field::BadField;
use crate::model::core::config::{ActionKind, ImageNetwork, PolicyConfig};
use crate::model::core::tokens::Token;
use crate::model::core::weights::{Initial, TensorSpec};
use crate::model::encoders::{
    Embedding, Encoder, ImageEncoder, ObservationEncoder, Positions, StepEncoder, Timesteps, TokenEncoder,
};
use crate::model::heads::Heads;
use crate::model::trunk::{Attention, Block, QueriesKeysValues, Trunk};

const MODEL_TYPE: &str = "decision_transformer_atari";

pub(super) const FAMILY: Family = Family {
    model_types: &[MODEL_TYPE],
    aliases: &[],
    complete: Some(complete),
    is_whole_without_config: true,
    tasks_file: None,
    fit: None,
    check,
    layout,
    tensor_aliases: &[],
    known_tensor: GLOBAL_POSITIONS,
    is_buffer,
    is_optional: |_| false,
    is_own,
    sites,
    embedding_tables: &["action_embeddings.0"],
    build,
};

/// The embedding of a window's timestep: `[1, timesteps, D]`.
const GLOBAL_POSITIONS: &str = "global_pos_emb";
/// That of a token's place in its window: `[1, 3·T + 1, D]`.
const POSITIONS: &str = "pos_emb";
const RETURN: &str = "ret_emb.0";
const FRAMES: &str = "state_encoder.7";
const ACTION: &str = "action_embeddings.0";
const HEAD: &str = "head";

/// The linear layers of a block.
const BLOCK_MODULES: [&str; 6] = ["attn.query", "attn.key", "attn.value", "attn.proj", "mlp.0", "mlp.2"];

/// The convolutions of [`ImageNetwork::NatureCnn`].
const CONVOLUTIONS: [&str; 3] = ["state_encoder.0", "state_encoder.2", "state_encoder.4"];

/// What reads frames.
const NETWORK: ImageNetwork = ImageNetwork::NatureCnn;

/// The frames of the published policies: `[C, H, W]`.
const ATARI_FRAMES: [i64; 3] = [4, 84, 84];

/// The published policies' attention heads, which no file says.
const HEADS: i64 = 8;

/// What the tensors say, and what the published policies have where they do not.
fn complete(table: &mut Map<String, Value>, shapes: &Shapes) {
    let size = |name: &str, axis: usize| shapes(name).and_then(|shape| shape.get(axis)).copied();
    let mut fill = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            table.entry(key).or_insert(value);
        }
    };
    fill("model_type", Some(json!(MODEL_TYPE)));
    fill("hidden_size", size(GLOBAL_POSITIONS, 2).map(Value::from));
    fill("max_ep_len", size(GLOBAL_POSITIONS, 1).map(Value::from));
    fill("n_positions", size(POSITIONS, 1).map(Value::from));
    fill("context_length", size(POSITIONS, 1).map(|positions| json!((positions - 1) / 3)));
    fill("act_dim", size("head.weight", 0).map(Value::from));
    fill("vocab_size", size("tok_emb.weight", 0).map(Value::from));
    fill("n_inner", size("blocks.0.mlp.0.weight", 0).map(Value::from));
    let blocks = (0..).take_while(|block| shapes(&format!("blocks.{block}.ln1.weight")).is_some());
    fill("n_layer", Some(json!(blocks.count())));
    fill("n_head", Some(json!(HEADS)));
    let [_, height, width] = ATARI_FRAMES;
    let channels = size("state_encoder.0.weight", 1).unwrap_or(ATARI_FRAMES[0]);
    fill("image_shape", Some(json!([channels, height, width])));
    fill("state_dim", Some(json!(channels * height * width)));
    fill("activation_function", Some(json!("gelu")));
    fill("action_kind", Some(json!("discrete")));
    fill("action_tanh", Some(json!(false)));
    fill("global_positions", Some(json!(true)));
    fill("return_scale", Some(json!(1.0)));
}

fn check(config: &PolicyConfig) -> Result<(), BadField> {
    let bad = |key: &'static str, found: String, wanted: &str| {
        Err(BadField { key: key.into(), found, wanted: wanted.to_owned() })
    };
    let Some(image) = config.image_shape else {
        return bad("image_shape", "absent".to_owned(), "[channels, height, width]");
    };
    if image[1..].iter().any(|side| *side < NETWORK.least_side()) {
        let wanted = "[channels, height, width] with sides of at least 36 pixels";
        return bad("image_shape", format!("{image:?}"), wanted);
    }
    if let Some(other) = config.image_encoder.filter(|network| *network != NETWORK) {
        return bad("image_encoder", format!("{other:?}"), "absent: this family has the DQN's convolutions");
    }
    if config.text.is_some() {
        return bad("text", "given".to_owned(), "absent: this family reads images alone");
    }
    if config.state_dim != image.iter().product::<i64>() {
        let wanted = format!("{}, the bytes of an image {image:?}", image.iter().product::<i64>());
        return bad("state_dim", config.state_dim.to_string(), &wanted);
    }
    if config.action_kind != ActionKind::Discrete {
        return bad("action_kind", format!("{:?}", config.action_kind).to_lowercase(), "\"discrete\"");
    }
    if !config.has_original_order() {
        let found = serde_json::to_string(&config.token_order).unwrap_or_default();
        return bad("token_order", found, "[\"return\",\"state\",\"action\"]");
    }
    config.check_tokens()?;
    if !config.global_positions {
        return bad("global_positions", "false".to_owned(), "true");
    }
    Ok(())
}

/// minGPT's initialisation: normal weights of linear layers, zero biases and positions; convolutions as normal, with
/// the deviation that keeps the scale of max(0, x) (He et al. 2015).
fn layout(config: &PolicyConfig) -> Vec<TensorSpec> {
    let (width, inner) = (config.hidden_size, config.inner());
    let image = config.image_shape.expect("the config was checked");
    let normal = Initial::Normal(config.initializer_range);
    let (zero, one) = (Initial::Constant(0.0), Initial::Constant(1.0));

    let mut layout = Vec::new();
    let mut add = |name: String, shape: &[i64], initial| {
        layout.push(TensorSpec { name, shape: shape.to_vec(), initial });
    };
    add(POSITIONS.to_owned(), &[1, config.n_positions, width], zero);
    add(GLOBAL_POSITIONS.to_owned(), &[1, config.max_ep_len, width], zero);
    add("tok_emb.weight".to_owned(), &[config.vocab_size, width], normal);
    for block in 0..config.n_layer {
        for (module, [input, output]) in block_shapes(width, inner) {
            add(format!("blocks.{block}.{module}.weight"), &[output, input], normal);
            add(format!("blocks.{block}.{module}.bias"), &[output], zero);
        }
        for norm in ["ln1", "ln2"] {
            add(format!("blocks.{block}.{norm}.weight"), &[width], one);
            add(format!("blocks.{block}.{norm}.bias"), &[width], zero);
        }
    }
    add("ln_f.weight".to_owned(), &[width], one);
    add("ln_f.bias".to_owned(), &[width], zero);
    add("head.weight".to_owned(), &[config.act_dim, width], normal);
    for (name, shape) in CONVOLUTIONS.into_iter().zip(NETWORK.convolutions(image[0])) {
        layout.extend(shape.tensors(name));
    }
    let mut add = |name: String, shape: &[i64], initial| {
        layout.push(TensorSpec { name, shape: shape.to_vec(), initial });
    };
    for (name, input) in [(FRAMES, NETWORK.features(image)), (RETURN, 1)] {
        add(format!("{name}.weight"), &[width, input], normal);
        add(format!("{name}.bias"), &[width], zero);
    }
    add(format!("{ACTION}.weight"), &[config.act_dim, width], normal);
    layout
}

/// Input and output widths of a block's linear layers.
fn block_shapes(width: i64, inner: i64) -> [(&'static str, [i64; 2]); 6] {
    let square = [width, width];
    let shapes = [square, square, square, square, [width, inner], [inner, width]];
    std::array::from_fn(|module| (BLOCK_MODULES[module], shapes[module]))
}

/// Causal masks.
fn is_buffer(name: &str) -> bool {
    name.starts_with("blocks.") && name.ends_with(".attn.mask")
}

fn is_own(name: &str) -> bool {
    let parts = [
        "blocks.",
        "state_encoder.",
        "ret_emb.",
        "action_embeddings.",
        "head.",
        "ln_f.",
        "tok_emb.",
        POSITIONS,
    ];
    parts.iter().any(|part| name.starts_with(part)) || name == GLOBAL_POSITIONS
}

/// A block's queries, keys and values share their input.
fn sites(config: &PolicyConfig) -> Vec<Site> {
    let width = config.hidden_size;
    let image = config.image_shape.expect("the config was checked");
    let mut sites = vec![Site::linear(RETURN, [1, width])];
    for (name, shape) in CONVOLUTIONS.into_iter().zip(NETWORK.convolutions(image[0])) {
        let kernel = [shape.input, shape.kernel, shape.kernel];
        let sides = [kernel.iter().product(), shape.output];
        sites.push(Site { kernel: Some(kernel), ..Site::linear(name, sides) });
    }
    sites.push(Site::linear(FRAMES, [NETWORK.features(image), width]));
    for block in 0..config.n_layer {
        for (module, shape) in block_shapes(width, config.inner()) {
            let module = format!("blocks.{block}.{module}");
            sites.push(Site { adapted_by_default: true, ..Site::linear(module, shape) });
        }
    }
    sites.push(Site::linear(HEAD, [width, config.act_dim]));

    Site::group(&mut sites, &["attn.key", "attn.value"]);
    sites
}

fn build(config: &PolicyConfig, weights: &BTreeMap<String, Tensor>) -> Parts {
    let named = Named(weights);
    let tensor = |name: &str| named.tensor(name);
    let module = |name: &str| named.module(name);
    let norm = |name: &str| named.norm(name, config.layer_norm_epsilon);
    let block = |index: usize| {
        let [query, key, value, attention_out, mlp_in, mlp_out] =
            BLOCK_MODULES.map(|name| module(&format!("blocks.{index}.{name}")));
        Block {
            index,
            attention_norm: norm(&format!("blocks.{index}.ln1")),
            attention_in: QueriesKeysValues::Separate(Box::new([query, key, value])),
            query_key_norms: None,
            attention_out,
            attention: Attention {
                heads: config.n_head,
                score_scale: ((config.hidden_size / config.n_head) as f64).sqrt().recip(),
                dropout: config.attn_pdrop,
                window: None,
            },
            mlp_norm: norm(&format!("blocks.{index}.ln2")),
            mlp_in,
            activation: config.activation_function,
            mlp_out,
            residual_dropout: config.resid_pdrop,
        }
    };
    let shapes = NETWORK.convolutions(config.image_shape.expect("the config was checked")[0]);
    let image = ImageEncoder {
        network: NETWORK,
        symbols: None,
        convolutions: CONVOLUTIONS
            .into_iter()
            .zip(shapes)
            .map(|(name, shape)| shape.build(name, weights))
            .collect(),
        gates: Vec::new(),
        projection: module(FRAMES),
        ends_with_relu: false,
    };
    let frames = ObservationEncoder { numbers: None, text: None, image: Some(image) };
    let token = |token, embedding| TokenEncoder { token, embedding, tanh: true };
    Parts {
        encoder: Encoder::Parts(StepEncoder {
            tokens: vec![
                token(Token::Return, Embedding::Linear(module(RETURN))),
                token(Token::State, Embedding::Observation(Box::new(frames))),
                token(Token::Action, Embedding::Linear(named.layer(ACTION, true))),
            ],
            timesteps: Some(tensor(GLOBAL_POSITIONS)),
            timing: Timesteps::OfWindow,
            positions: tensor(POSITIONS),
            positioning: Positions::InWindow,
            norm: None,
            dropout: config.embd_pdrop,
            words: None,
        }),
        trunk: Trunk::new((0..config.n_layer as usize).map(block).collect(), norm("ln_f")),
        heads: Heads {
            hidden: Vec::new(),
            reads_per_step: 1,
            action: module(HEAD),
            state: None,
            returns: None,
            image: None,
            text: None,
        },
    }
}
