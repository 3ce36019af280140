//! JAT (arXiv 2402.09844), one policy for vectors, images and ids, as huggingface/jat has it.
//!
//! A step is an observation and an action, two tokens, without returns or normalisation. Vectors of any width, the
//! reward beside them, repeat until they fill one layer; discrete actions are rows of the word embedding. The trunk is
//! GPT-Neo's: scores are not scaled, and some blocks see a few tokens back alone.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tch::Tensor;

use super::family::{Family, Parts, Shapes};
use super::named::Named;
use crate::adapter::site::Site;
use crate::model::core::bad_field::BadField;
use crate::model::core::config::{ActionKind, ImageNetwork, PolicyConfig};
use crate::model::core::grid::Grid;
use crate::model::core::layers::Convolution;
use crate::model::core::spaces::Spaces;
use crate::model::core::tokens::Token;
use crate::model::core::weights::{Initial, TensorSpec};
use crate::model::encoders::{
    Embedding, Encoder, Gate, IdsEncoder, ImageEncoder, ObservationEncoder, Positions, StepEncoder,
    Timesteps, TokenEncoder,
};
use crate::model::heads::{Heads, ImageDecoder};
use crate::model::trunk::{Attention, Block, QueriesKeysValues, Trunk};

const MODEL_TYPE: &str = "jat";

pub(super) const FAMILY: Family = Family {
    model_types: &[MODEL_TYPE],
    aliases: &[],
    complete: Some(complete),
    is_whole_without_config: false,
    tasks_file: None,
    fit: Some(fit),
    check,
    layout,
    tensor_aliases: &[
        ("single_discrete_encoder.weight", "transformer.wte.weight"),
        ("multi_discrete_encoder.0.weight", "transformer.wte.weight"),
    ],
    known_tensor: "continuous_encoder.weight",
    is_buffer,
    is_optional,
    is_own,
    sites,
    embedding_tables: &["transformer.wte", "transformer.wpe"],
    build,
};

const WORDS: &str = "transformer.wte";
const NUMBERS: &str = "continuous_encoder";
const NUMBERS_HEAD: &str = "continuous_decoder";
const IDS: [&str; 2] = ["multi_discrete_encoder.1", "multi_discrete_encoder.4"];
const CHOICE_HEAD: &str = "single_discrete_decoder";
const IMAGE: &str = "image_encoder.module";
const IMAGE_HEAD: &str = "image_decoder.module";

/// The linear layers of a block, those without a bias first.
const BLOCK_MODULES: [&str; 6] = [
    "attn.attention.q_proj",
    "attn.attention.k_proj",
    "attn.attention.v_proj",
    "attn.attention.out_proj",
    "mlp.c_fc",
    "mlp.c_proj",
];
const WITHOUT_BIAS: usize = 3;

/// The only images that it reads: channels, height, width.
const FRAMES: [i64; 3] = [4, 84, 84];

/// Channels behind each convolution of its image encoder, and of its decoder before each transposed one.
const CHANNELS: [i64; 4] = [4, 32, 64, 128];

/// Side of what the convolutions leave of an image.
const SIDE: i64 = 11;

/// Steps that it looks back on where nobody says otherwise: as the reference evaluates it on vectors, and on images.
const STEPS: [i64; 2] = [128, 16];

/// Our key of `config.json` that says that observations are ids.
const ARE_IDS: &str = "observations_are_ids";

/// The key of how many ids an observation of such has.
const IDS_WIDTH: &str = "max_discrete_value";

/// GPT-2's end of a text, which stands behind missions.
const PADDING: i64 = 50_256;

/// Timesteps that it knows; it reads none.
const TIMESTEPS: i64 = 1 << 24;

/// Keys of `config.json`, with those that [`PolicyConfig`] has for them.
const KEYS: [(&str, &str); 7] = [
    ("num_layers", "n_layer"),
    ("num_heads", "n_head"),
    ("intermediate_size", "n_inner"),
    ("max_position_embeddings", "n_positions"),
    ("attention_dropout", "attn_pdrop"),
    ("resid_dropout", "resid_pdrop"),
    ("embed_dropout", "embd_pdrop"),
];

/// What the reference's keys mean in ours; they stay in the table, so that the reference can read what is written.
fn complete(table: &mut Map<String, Value>, shapes: &Shapes) {
    for key in ["attn_pdrop", "resid_pdrop", "embd_pdrop"] {
        table.insert(key.to_owned(), json!(0.0));
    }
    for (theirs, ours) in KEYS {
        match table.get(theirs).cloned() {
            Some(value) if !value.is_null() => drop(table.insert(ours.to_owned(), value)),
            _ => {}
        }
    }
    let ours = [
        ("max_ep_len", json!(TIMESTEPS)),
        ("action_tanh", json!(false)),
        ("raw_actions", json!(true)),
        ("raw_states", json!(true)),
        ("return_scale", json!(1.0)),
        ("scale_attn_weights", json!(false)),
        ("token_order", json!(["state", "action"])),
        ("global_positions", json!(true)),
    ];
    for (key, value) in ours {
        table.insert(key.to_owned(), value);
    }
    // An environment's are known once there is one.
    let width = shapes("continuous_encoder.weight").and_then(|shape| shape.get(1)).copied().unwrap_or(2);
    let positions = table.get("n_positions").and_then(Value::as_i64).unwrap_or(2);
    for (key, value) in
        [("state_dim", width - 1), ("act_dim", width), ("context_length", STEPS[0].min(positions / 2))]
    {
        table.entry(key).or_insert(json!(value));
    }
}

/// Its widths are the environment's own.
fn fit(mut config: PolicyConfig, spaces: &Spaces) -> Result<PolicyConfig, BadField> {
    let width = size(&config, IDS_WIDTH);
    let grid = |place| {
        let padding = config.other.get("eos_token_id").and_then(Value::as_i64).unwrap_or(PADDING);
        Grid::new(place, (IDS_WIDTH, width), padding, config.vocab_size, &config.tokenizer)
    };
    config.grid = spaces.grid.as_ref().map(grid).transpose()?;
    config.image_shape = spaces.image.filter(|_| config.grid.is_none());
    config.state_dim = if config.grid.is_some() { width } else { spaces.numbers + config.pixels() };
    config.action_kind = spaces.action_kind;
    config.other.remove(ARE_IDS);
    if spaces.ids || config.grid.is_some() {
        config.other.insert(ARE_IDS.to_owned(), json!(true));
    }
    config.act_dim = spaces.act_dim;
    if config.image_shape.is_some() {
        config.context_length = config.context_length.map(|steps| steps.min(STEPS[1]));
    }
    check(&config)?;
    Ok(config)
}

fn check(config: &PolicyConfig) -> Result<(), BadField> {
    let bad =
        |key: &'static str, found: String, wanted: String| Err(BadField { key: key.into(), found, wanted });
    let found = |key: &str| config.other.get(key).map_or("absent".to_owned(), Value::to_string);
    for key in ["num_layers", "num_heads", "max_continuous_size", "window_size"] {
        if size(config, key) < 1 {
            return bad(key, found(key), "a size of at least 1".to_owned());
        }
    }
    let Some(windows) = windows(config) else {
        let wanted = "lists of \"global\" and \"local\" with a count each".to_owned();
        return bad("attention_types", found("attention_types"), wanted);
    };
    if windows.len() as i64 != config.n_layer {
        let wanted = format!("{}, as attention_types have it", windows.len());
        return bad("num_layers", config.n_layer.to_string(), wanted);
    }
    let width = size(config, "max_continuous_size");
    if config.image_shape.is_some_and(|shape| shape != FRAMES || config.row_width() > 0) {
        let found =
            format!("{:?} beside {} numbers", config.image_shape.unwrap_or_default(), config.row_width());
        return bad("image_shape", found, format!("{FRAMES:?} beside none"));
    }
    if config.image_shape.is_none() && config.state_dim >= width && !reads_ids(config) {
        let wanted = format!("less than {width}, which hold the reward too");
        return bad("state_dim", config.state_dim.to_string(), wanted);
    }
    if reads_ids(config) && id_width(config) == 0 {
        return bad(
            "hidden_size",
            config.hidden_size.to_string(),
            "at least 50, where observations are ids".to_owned(),
        );
    }
    let most = if config.action_kind == ActionKind::Continuous { width } else { config.vocab_size };
    if config.act_dim > most || config.action_kind == ActionKind::Binned {
        return bad("act_dim", config.act_dim.to_string(), format!("at most {most}, continuous or discrete"));
    }
    if config.token_order != [Token::State, Token::Action] {
        return bad("token_order", format!("{:?}", config.token_order), "[\"state\",\"action\"]".to_owned());
    }
    Ok(())
}

/// One of the reference's sizes; 0 where it is none.
fn size(config: &PolicyConfig, key: &str) -> i64 {
    config.other.get(key).and_then(Value::as_i64).filter(|size| (1..=1 << 24).contains(size)).unwrap_or(0)
}

/// Whether observations are ids of the vocabulary.
fn reads_ids(config: &PolicyConfig) -> bool {
    config.image_shape.is_none() && config.other.get(ARE_IDS) == Some(&Value::Bool(true))
}

/// Of each block how many tokens it sees, itself included; none where it sees all.
fn windows(config: &PolicyConfig) -> Option<Vec<Option<i64>>> {
    let mut windows = Vec::new();
    for entry in config.other.get("attention_types")?.as_array()? {
        let [kinds, count] = entry.as_array()?.as_slice() else { return None };
        for _ in 0..count.as_u64().filter(|count| *count <= 4096)? {
            for kind in kinds.as_array()? {
                windows.push(match kind.as_str()? {
                    "global" => None,
                    "local" => Some(size(config, "window_size")),
                    _ => return None,
                });
            }
        }
    }
    Some(windows)
}

/// Width of the vector that an id becomes.
fn id_width(config: &PolicyConfig) -> i64 {
    config.hidden_size / 50
}

/// GPT-Neo's: normal weights, zero biases. Of other kinds of observations than the policy's the file may hold nothing.
fn layout(config: &PolicyConfig) -> Vec<TensorSpec> {
    let (width, inner, numbers) = (config.hidden_size, config.inner(), size(config, "max_continuous_size"));
    let normal = Initial::Normal(config.initializer_range);
    let (zero, one) = (Initial::Constant(0.0), Initial::Constant(1.0));
    let mut layout = Vec::new();
    let mut add = |name: String, shape: &[i64], initial| {
        layout.push(TensorSpec { name, shape: shape.to_vec(), initial });
    };
    add(format!("{WORDS}.weight"), &[config.vocab_size, width], normal);
    add("transformer.wpe.weight".to_owned(), &[config.n_positions, width], normal);
    for block in 0..config.n_layer {
        for (index, (module, [input, output])) in block_shapes(width, inner).into_iter().enumerate() {
            add(format!("transformer.h.{block}.{module}.weight"), &[output, input], normal);
            if index >= WITHOUT_BIAS {
                add(format!("transformer.h.{block}.{module}.bias"), &[output], zero);
            }
        }
    }
    let of_blocks =
        (0..config.n_layer).flat_map(|block| ["ln_1", "ln_2"].map(|norm| format!("h.{block}.{norm}")));
    for norm in of_blocks.chain(["ln_f".to_owned()]) {
        add(format!("transformer.{norm}.weight"), &[width], one);
        add(format!("transformer.{norm}.bias"), &[width], zero);
    }
    let mut linear = |name: &str, input: i64, output: i64| {
        add(format!("{name}.weight"), &[output, input], normal);
        add(format!("{name}.bias"), &[output], zero);
    };
    linear(NUMBERS, numbers, width);
    linear(NUMBERS_HEAD, width, numbers);
    if reads_ids(config) {
        linear(IDS[0], width, id_width(config));
        linear(IDS[1], id_width(config) * config.state_dim, width - 1);
    }
    if config.image_shape.is_some() {
        linear(&format!("{IMAGE}.fc"), CHANNELS[3] * SIDE * SIDE, width);
    }
    add(format!("{CHOICE_HEAD}.weight"), &[config.vocab_size, width], normal);
    if config.image_shape.is_some() {
        for (index, channels) in CHANNELS.windows(2).enumerate() {
            let (name, [input, output]) = (format!("{IMAGE}.conv{}", index + 1), [channels[0], channels[1]]);
            add(format!("{name}.weight"), &[output, input, 3, 3], normal);
            add(format!("{name}.bias"), &[output], zero);
            let gate = format!("{IMAGE}.att{}.fc", index + 1);
            add(format!("{gate}.0.weight"), &[output / 8, output], normal);
            add(format!("{gate}.2.weight"), &[output, output / 8], normal);
        }
    }
    layout
}

/// Input and output widths of a block's linear layers.
fn block_shapes(width: i64, inner: i64) -> [(&'static str, [i64; 2]); 6] {
    let square = [width, width];
    let shapes = [square, square, square, square, [width, inner], [inner, width]];
    std::array::from_fn(|module| (BLOCK_MODULES[module], shapes[module]))
}

/// Causal masks of earlier versions of GPT-Neo, and the word embedding under its other names.
fn is_buffer(name: &str) -> bool {
    let mask = name.ends_with(".attn.attention.bias") || name.ends_with(".attn.attention.masked_bias");
    mask || ["single_discrete_encoder.weight", "multi_discrete_encoder.0.weight"].contains(&name)
}

/// Parts for other observations than the policy's, and for pictures beside text.
fn is_optional(name: &str) -> bool {
    ["image_encoder.", "image_decoder.", "multi_discrete_", "vit_encoder."]
        .iter()
        .any(|part| name.starts_with(part))
}

fn is_own(name: &str) -> bool {
    let parts = ["transformer.", "continuous_", "single_discrete_"];
    parts.iter().any(|part| name.starts_with(part)) || is_optional(name)
}

/// A block's queries, keys and values share their input.
fn sites(config: &PolicyConfig) -> Vec<Site> {
    let (width, numbers) = (config.hidden_size, size(config, "max_continuous_size"));
    let mut sites = vec![Site::linear(NUMBERS, [numbers, width])];
    if config.image_shape.is_some() {
        for (index, channels) in CHANNELS.windows(2).enumerate() {
            let kernel = [channels[0], 3, 3];
            let name = format!("{IMAGE}.conv{}", index + 1);
            let own = Site::linear(name, [kernel.iter().product(), channels[1]]);
            sites.push(Site { kernel: Some(kernel), ..own });
        }
        sites.push(Site::linear(format!("{IMAGE}.fc"), [CHANNELS[3] * SIDE * SIDE, width]));
    }
    for block in 0..config.n_layer {
        for (module, shape) in block_shapes(width, config.inner()) {
            let module = format!("transformer.h.{block}.{module}");
            sites.push(Site { adapted_by_default: true, ..Site::linear(module, shape) });
        }
    }
    match config.action_kind {
        ActionKind::Discrete => sites.push(Site::linear(CHOICE_HEAD, [width, config.vocab_size])),
        _ => sites.push(Site::linear(NUMBERS_HEAD, [width, numbers])),
    }
    Site::group(&mut sites, &[".k_proj", ".v_proj"]);
    sites
}

fn build(config: &PolicyConfig, weights: &BTreeMap<String, Tensor>) -> Parts {
    let named = Named(weights);
    let tensor = |name: &str| named.tensor(name);
    let module = |name: &str| named.module(name);
    let norm = |name: &str| named.norm(name, config.layer_norm_epsilon);
    let gate = |name: String| Gate {
        squeeze: module(&format!("{name}.fc.0")),
        excite: module(&format!("{name}.fc.2")),
    };
    let block = |(index, window): (usize, Option<i64>)| {
        let name = |part: &str| format!("transformer.h.{index}.{part}");
        let [query, key, value, attention_out, mlp_in, mlp_out] =
            BLOCK_MODULES.map(|part| module(&name(part)));
        Block {
            index,
            attention_norm: norm(&name("ln_1")),
            attention_in: QueriesKeysValues::Separate(Box::new([query, key, value])),
            query_key_norms: None,
            attention_out,
            attention: Attention {
                heads: config.n_head,
                score_scale: 1.0,
                dropout: config.attn_pdrop,
                window,
            },
            mlp_norm: norm(&name("ln_2")),
            mlp_in,
            activation: config.activation_function,
            mlp_out,
            residual_dropout: config.resid_pdrop,
        }
    };
    let numbers = size(config, "max_continuous_size");
    let words = tensor(&format!("{WORDS}.weight"));
    let observation = match config.image_shape {
        Some(_) => Embedding::Observation(Box::new(ObservationEncoder {
            numbers: None,
            text: None,
            image: Some(ImageEncoder {
                network: ImageNetwork::NatureCnn, // whose place the gates take
                symbols: None,
                convolutions: (1..=3)
                    .map(|index| {
                        let name = format!("{IMAGE}.conv{index}");
                        let (weight, bias) =
                            (tensor(&format!("{name}.weight")), tensor(&format!("{name}.bias")));
                        Convolution { name: name.into(), weight, bias, stride: 2, padding: 1 }
                    })
                    .collect(),
                gates: (1..=3).map(|index| gate(format!("{IMAGE}.att{index}"))).collect(),
                projection: module(&format!("{IMAGE}.fc")),
                ends_with_relu: false,
            }),
        })),
        None if reads_ids(config) => Embedding::Ids(IdsEncoder {
            table: words.shallow_clone(),
            hidden: module(IDS[0]),
            projection: module(IDS[1]),
        }),
        None => Embedding::Cyclic(module(NUMBERS), numbers),
    };
    let action = match config.action_kind {
        ActionKind::Discrete => Embedding::Table(words.shallow_clone()),
        _ => Embedding::Cyclic(module(NUMBERS), numbers),
    };
    let token = |token, embedding| TokenEncoder { token, embedding, tanh: false };
    let predicts_image =
        config.image_shape.is_some() && weights.contains_key(&format!("{IMAGE_HEAD}.fc.weight"));
    let windows = windows(config).expect("the config was checked");
    Parts {
        encoder: Encoder::Parts(StepEncoder {
            tokens: vec![token(Token::State, observation), token(Token::Action, action)],
            timesteps: None,
            timing: Timesteps::OfStep,
            positions: tensor("transformer.wpe.weight"),
            positioning: Positions::InWindow,
            norm: None,
            dropout: config.embd_pdrop,
            words: Some(words),
        }),
        trunk: Trunk::new(windows.into_iter().enumerate().map(block).collect(), norm("transformer.ln_f")),
        heads: Heads {
            hidden: Vec::new(),
            reads_per_step: 1,
            action: module(if config.action_kind == ActionKind::Discrete {
                CHOICE_HEAD
            } else {
                NUMBERS_HEAD
            }),
            state: (config.image_shape.is_none() && !reads_ids(config)).then(|| module(NUMBERS_HEAD)),
            returns: None,
            image: predicts_image.then(|| ImageDecoder {
                projection: module(&format!("{IMAGE_HEAD}.fc")),
                convolutions: [1, 2, 3].map(|index| {
                    let name = format!("{IMAGE_HEAD}.deconv{index}");
                    (tensor(&format!("{name}.weight")), tensor(&format!("{name}.bias")))
                }),
                gates: [1, 2].map(|index| gate(format!("{IMAGE_HEAD}.att{index}"))),
            }),
            text: Some(module(CHOICE_HEAD)),
        },
    }
}
