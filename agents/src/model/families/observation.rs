//! States of more than numbers, which families of our own read: the tensors, modules and encoders of their text and
//! their image.

use std::collections::BTreeMap;

use tch::Tensor;

use super::named::Named;
use crate::adapter::site::Site;
use crate::model::core::bad_field::BadField;
use crate::model::core::config::{ImageNetwork, PolicyConfig};
use crate::model::core::weights::{Initial, TensorSpec};
use crate::model::encoders::{ImageEncoder, SYMBOL_WIDTH, SYMBOLS, TextEncoder};

/// Vectors of words and of their places, and the layers after them.
const WORDS: &str = "embed_text.words";
const PLACES: &str = "embed_text.places";
const TEXT_HIDDEN: &str = "embed_text.hidden";
const TEXT: &str = "embed_text.projection";

/// Vectors of symbols, convolutions by their number, and the layer after them.
const SYMBOL_TABLE: &str = "embed_image.symbols";
const CONVOLUTIONS: &str = "embed_image.convolutions";
const IMAGE: &str = "embed_image.projection";

fn network(config: &PolicyConfig) -> ImageNetwork {
    config.image_encoder.unwrap_or(ImageNetwork::NatureCnn)
}

/// Refuses an image that its network leaves nothing of, and a network without an image.
pub fn check(config: &PolicyConfig) -> Result<(), BadField> {
    let bad =
        |key: &'static str, found: String, wanted: String| Err(BadField { key: key.into(), found, wanted });
    let Some(image) = config.image_shape else {
        return match config.image_encoder {
            None => Ok(()),
            Some(network) => {
                bad("image_encoder", format!("{network:?}"), "absent without image_shape".to_owned())
            }
        };
    };
    let least = network(config).least_side();
    if image[1..].iter().any(|side| *side < least) {
        let wanted = format!("[channels, height, width] with sides of at least {least} pixels");
        return bad("image_shape", format!("{image:?}"), wanted);
    }
    Ok(())
}

/// The linear layers of text and image: name, input, output.
fn layers(config: &PolicyConfig) -> Vec<(&'static str, [i64; 2])> {
    let width = config.hidden_size;
    let mut layers = Vec::new();
    if config.text.is_some() {
        layers.extend([(TEXT_HIDDEN, [width, width]), (TEXT, [width, width])]);
    }
    if let Some(image) = config.image_shape {
        layers.push((IMAGE, [network(config).features(image), width]));
    }
    layers
}

/// The tensors of text and image.
pub fn layout(config: &PolicyConfig) -> Vec<TensorSpec> {
    let normal = Initial::Normal(config.initializer_range);
    let mut layout = Vec::new();
    let mut add = |name: String, shape: &[i64], initial| {
        layout.push(TensorSpec { name, shape: shape.to_vec(), initial });
    };
    if let Some(text) = &config.text {
        add(
            format!("{WORDS}.weight"),
            &[text.words.len() as i64 + 1, config.hidden_size],
            Initial::Normal(1.0),
        );
        add(format!("{PLACES}.weight"), &[text.longest as i64, config.hidden_size], normal);
    }
    if let (Some([channels, ..]), ImageNetwork::Symbols) = (config.image_shape, network(config)) {
        add(format!("{SYMBOL_TABLE}.weight"), &[channels * SYMBOLS, SYMBOL_WIDTH], Initial::Normal(1.0));
    }
    for (name, [input, output]) in layers(config) {
        // As wide as keeps the scale of what it reads, which no norm precedes.
        let kept = Initial::Normal((input as f64).sqrt().recip());
        add(format!("{name}.weight"), &[output, input], kept);
        add(format!("{name}.bias"), &[output], Initial::Constant(0.0));
    }
    if let Some([channels, ..]) = config.image_shape {
        for (index, shape) in network(config).convolutions(channels).into_iter().enumerate() {
            layout.extend(shape.tensors(&format!("{CONVOLUTIONS}.{index}")));
        }
    }
    layout
}

/// The convolutions, and the layer after them; a text's layers get no adapters.
pub fn sites(config: &PolicyConfig) -> Vec<Site> {
    let Some(image) = config.image_shape else { return Vec::new() };
    let site = |name: String, [input, output]: [i64; 2], kernel| Site {
        module: name.into(),
        input,
        output,
        fan_in_fan_out: false,
        kernel,
        input_group: 0,
        adapted_by_default: false,
    };
    let convolutions = network(config).convolutions(image[0]).into_iter().enumerate();
    let mut sites: Vec<Site> = convolutions
        .map(|(index, shape)| {
            let kernel = [shape.input, shape.kernel, shape.kernel];
            let sides = [kernel.iter().product(), shape.output];
            site(format!("{CONVOLUTIONS}.{index}"), sides, Some(kernel))
        })
        .collect();
    sites.push(site(IMAGE.to_owned(), [network(config).features(image), config.hidden_size], None));
    sites
}

/// The encoder of a text, where the policy reads one.
pub fn text(config: &PolicyConfig, weights: &BTreeMap<String, Tensor>) -> Option<TextEncoder> {
    config.text.as_ref()?;
    Some(TextEncoder {
        words: Named(weights).tensor(&format!("{WORDS}.weight")),
        places: Named(weights).tensor(&format!("{PLACES}.weight")),
        hidden: Named(weights).module(TEXT_HIDDEN),
        projection: Named(weights).module(TEXT),
    })
}

/// The encoder of an image, where the policy reads one.
pub fn image(config: &PolicyConfig, weights: &BTreeMap<String, Tensor>) -> Option<ImageEncoder> {
    let [channels, ..] = config.image_shape?;
    let network = network(config);
    let shapes = network.convolutions(channels).into_iter().enumerate();
    Some(ImageEncoder {
        ends_with_relu: false,
        network,
        gates: Vec::new(),
        symbols: weights.get(&format!("{SYMBOL_TABLE}.weight")).map(Tensor::shallow_clone),
        convolutions: shapes
            .map(|(index, shape)| shape.build(&format!("{CONVOLUTIONS}.{index}"), weights))
            .collect(),
        projection: Named(weights).module(IMAGE),
    })
}
