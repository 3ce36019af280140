//! Images as vectors: convolutions, and a linear layer of all that they leave.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::gate::{Gate, normalised_leaky};
use crate::adapter::AdapterSet;
use crate::model::core::config::ImageNetwork;
use crate::model::core::forward::ForwardContext;
use crate::model::core::layers::{Convolution, Module, look_up};
use crate::model::core::weights::{Initial, TensorSpec};

/// Images that are embedded at once, whose activations stay in a core's cache.
const PIECE: i64 = 64;

/// Values of a symbol that [`ImageNetwork::Symbols`] tells apart; MiniGrid has 11 objects, 6 colours and 3 states.
pub const SYMBOLS: i64 = 32;

/// Width of a symbol's vector.
pub const SYMBOL_WIDTH: i64 = 16;

/// Convolutions of an IMPALA stage: one before its pooling, and two each of two residual blocks.
const OF_STAGE: usize = 5;

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvolutionShape {
    /// Channels that it reads.
    pub input: i64,
    /// Channels that it gives.
    pub output: i64,
    /// Side of its kernel.
    pub kernel: i64,
    /// In both directions.
    pub stride: i64,
    /// Zeros at each border.
    pub padding: i64,
}

impl ConvolutionShape {
    /// Its tensors in a file, and how new ones are initialised: with the deviation that keeps the scale of max(0, x)
    /// (He et al. 2015).
    pub fn tensors(&self, name: &str) -> [TensorSpec; 2] {
        let he = Initial::Normal((2.0 / (self.input * self.kernel * self.kernel) as f64).sqrt());
        let weight = vec![self.output, self.input, self.kernel, self.kernel];
        [
            TensorSpec { name: format!("{name}.weight"), shape: weight, initial: he },
            TensorSpec {
                name: format!("{name}.bias"),
                shape: vec![self.output],
                initial: Initial::Constant(0.0),
            },
        ]
    }

    /// The convolution of these sizes, made of tensors by name.
    pub fn build(&self, name: &str, weights: &BTreeMap<String, Tensor>) -> Convolution {
        Convolution {
            name: name.into(),
            weight: weights[&format!("{name}.weight")].shallow_clone(),
            bias: weights[&format!("{name}.bias")].shallow_clone(),
            stride: self.stride,
            padding: self.padding,
        }
    }

    /// What it leaves of a side.
    fn side(&self, side: i64) -> i64 {
        (side + 2 * self.padding - self.kernel) / self.stride + 1
    }
}

impl ImageNetwork {
    /// Its convolutions over images of `channels`, in the order of the forward pass.
    pub fn convolutions(self, channels: i64) -> Vec<ConvolutionShape> {
        let shape = |input, output, kernel, stride, padding| ConvolutionShape {
            input,
            output,
            kernel,
            stride,
            padding,
        };
        match self {
            Self::NatureCnn => {
                vec![shape(channels, 32, 8, 4, 0), shape(32, 64, 4, 2, 0), shape(64, 64, 3, 1, 0)]
            }
            Self::ImpalaCnn => {
                let mut input = channels;
                let stage = |output: i64| {
                    let entry = shape(input, output, 3, 1, 1);
                    input = output;
                    [[entry].as_slice(), &[shape(output, output, 3, 1, 1); OF_STAGE - 1]].concat()
                };
                [16, 32, 32].into_iter().flat_map(stage).collect()
            }
            Self::Symbols => vec![shape(SYMBOL_WIDTH, 32, 3, 1, 1), shape(32, 64, 3, 1, 1)],
        }
    }

    /// The least side of an image of which it leaves anything.
    pub fn least_side(self) -> i64 {
        match self {
            Self::NatureCnn => 36,
            Self::ImpalaCnn | Self::Symbols => 1,
        }
    }

    /// Numbers that it leaves of an image `[C, H, W]`.
    pub fn features(self, [channels, height, width]: [i64; 3]) -> i64 {
        let convolutions = self.convolutions(channels);
        let side = |side: i64| match self {
            Self::NatureCnn | Self::Symbols => convolutions.iter().fold(side, |side, one| one.side(side)),
            // Each stage's pooling halves it.
            Self::ImpalaCnn => convolutions.chunks(OF_STAGE).fold(side, |side, _| (side + 1) / 2),
        };
        convolutions.last().map_or(0, |last| last.output) * side(height) * side(width)
    }
}

/// Embeds images.
#[derive(Debug)]
pub struct ImageEncoder {
    /// How its convolutions follow one another.
    pub network: ImageNetwork,
    /// `[C · SYMBOLS, SYMBOL_WIDTH]`, a vector per symbol of each channel, where the network reads symbols.
    pub symbols: Option<Tensor>,
    /// From the pixels on.
    pub convolutions: Vec<Convolution>,
    /// Behind each convolution, where channels are scaled; the network counts for nothing then.
    pub gates: Vec<Gate>,
    /// To the residual stream: channels · height · width → D.
    pub projection: Module,
    /// Whether max(0, x) follows.
    pub ends_with_relu: bool,
}

impl ImageEncoder {
    /// Images of bytes `[B, T, C, H, W]` → `[B, T, D]`.
    pub fn forward(&self, context: &mut ForwardContext, images: &Tensor) -> Tensor {
        let shape = images.size();
        let images = images.flatten(0, 1); // [B·T, C, H, W]
        // Who observes the pass is shown all images at once.
        let piece = if context.is_observed() { shape[0] * shape[1] } else { PIECE };
        let pieces: Vec<Tensor> =
            images.split(piece.max(1), 0).iter().map(|images| self.features(context, images)).collect();
        let x = context.project(&self.projection, &Tensor::cat(&pieces, 0));
        let x = if self.ends_with_relu { x.relu() } else { x };
        x.view([shape[0], shape[1], -1])
    }

    /// Whether nothing that it computes with is trained, itself or by `adapters`.
    pub fn is_frozen(&self, adapters: &AdapterSet) -> bool {
        let own = self.convolutions.iter().map(|one| (&one.name, [&one.weight, &one.bias]));
        let Module { name, linear } = &self.projection;
        let own = own.chain([(name, [&linear.weight, &linear.bias])]);
        let gates = self.gates.iter().flat_map(|gate| [&gate.squeeze, &gate.excite]);
        let own = own.chain(gates.map(|one| (&one.name, [&one.linear.weight, &one.linear.bias])));
        let trained = |tensor: &Tensor| tensor.requires_grad();
        !self.symbols.iter().any(trained)
            && own
                .into_iter()
                .all(|(name, tensors)| adapters.get(name).is_none() && !tensors.into_iter().any(trained))
    }

    /// `[N, C, H, W]` → `[N, channels · height · width]`.
    fn features(&self, context: &mut ForwardContext, images: &Tensor) -> Tensor {
        if !self.gates.is_empty() {
            return self.gated_features(context, images);
        }
        let x = match &self.symbols {
            None => images.to_kind(Kind::Float) / 255.0,
            Some(table) => embed_symbols(table, images),
        };
        let x = match self.network {
            ImageNetwork::NatureCnn | ImageNetwork::Symbols => {
                self.convolutions.iter().fold(x, |x, one| context.convolve(one, &x).relu())
            }
            ImageNetwork::ImpalaCnn => {
                self.convolutions.chunks(OF_STAGE).fold(x, |x, stage| impala_stage(context, stage, &x)).relu()
            }
        };
        x.flatten(1, -1)
    }

    /// JAT's: convolutions of pixels from −1 to 1, each normalised and its channels scaled: `[N, C, H, W]` →
    /// `[N, channels · height · width]`.
    fn gated_features(&self, context: &mut ForwardContext, images: &Tensor) -> Tensor {
        let mut x = (images.to_kind(Kind::Float) / 255.0 - 0.5) / 0.5;
        for (convolution, gate) in self.convolutions.iter().zip(&self.gates) {
            let convolved = normalised_leaky(&context.convolve(convolution, &x));
            x = gate.forward(context, &convolved);
        }
        x.flatten(1, -1)
    }
}

/// The sum of the vectors of each place's symbols: `[N, C, H, W]` → `[N, SYMBOL_WIDTH, H, W]`.
fn embed_symbols(table: &Tensor, images: &Tensor) -> Tensor {
    let channels = images.size()[1];
    let first = Tensor::arange(channels, (Kind::Int64, images.device())) * SYMBOLS; // of each channel
    let symbols = images.to_kind(Kind::Int64).clamp(0, SYMBOLS - 1) + first.view([-1, 1, 1]); // [N, C, H, W]
    let vectors = look_up(table, &symbols); // [N, C, H, W, E]
    vectors.sum_dim_intlist(1, false, Kind::Float).permute([0, 3, 1, 2]).contiguous()
}

/// A convolution, its maxima over 3 × 3 at every second place, and two residual blocks: `[N, C, H, W]` →
/// `[N, out, ⌈H/2⌉, ⌈W/2⌉]`.
fn impala_stage(context: &mut ForwardContext, stage: &[Convolution], x: &Tensor) -> Tensor {
    let (entry, blocks) = stage.split_first().expect("a stage has five convolutions");
    let mut x = context.convolve(entry, x).max_pool2d(3, 2, 1, 1, false);
    for block in blocks.chunks(2) {
        let mut inner = x.shallow_clone();
        for convolution in block {
            inner = context.convolve(convolution, &inner.relu());
        }
        x += inner;
    }
    x
}
