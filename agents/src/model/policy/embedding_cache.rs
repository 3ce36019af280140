//! What a frozen encoder makes of images, each embedded once however many windows show it.

use std::collections::HashMap;

use tch::{Device, Tensor};
use xxhash_rust::xxh3::xxh3_128;

use super::transformer::TransformerPolicy;
use crate::adapter::AdapterSet;
use crate::model::core::forward::ForwardContext;

/// Images that are embedded at once: always this many, so that an embedding has the same bits whatever else is in the piece.
const PIECE: usize = 64;

/// Embeddings by the 128-bit hash of their image.
///
/// Windows overlap and are drawn again, and an image becomes the same wherever it stands, so an update whose image
/// encoder is not trained need not compute it again.
#[derive(Debug)]
pub struct EmbeddingCache {
    /// Where in `vectors` an image's begins.
    places: HashMap<u128, usize>,
    vectors: Vec<f32>,
    /// Numbers that `vectors` keeps; once it is full, further images are embedded whenever they are shown.
    most: usize,
}

impl EmbeddingCache {
    /// Empty, for at most so many bytes of embeddings; none where `policy` reads no images, or where its image encoder is
    /// trained, itself or by `adapters`.
    pub fn new(policy: &TransformerPolicy, adapters: &AdapterSet, bytes: usize) -> Option<Self> {
        let encoder = policy.encoder.image_encoder()?;
        let most = bytes / size_of::<f32>();
        encoder.is_frozen(adapters).then(|| Self { places: HashMap::new(), vectors: Vec::new(), most })
    }

    /// How many images it keeps.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether it keeps none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The embeddings of images of bytes `[N, C, H, W]`, channels first, for the policy that it was made for:
    /// `[N, D]`, on the policy's device.
    pub fn embed(&mut self, policy: &TransformerPolicy, pixels: &[u8]) -> Tensor {
        let shape = policy.config().image_shape.expect("the policy reads images");
        let size = shape.iter().product::<i64>() as usize;
        let width = policy.trunk.width() as usize;
        let before = self.vectors.len();
        let (mut places, mut new) = (Vec::with_capacity(pixels.len() / size), Vec::new());
        for image in pixels.chunks_exact(size) {
            let next = before + new.len() * width;
            let hash = xxh3_128(image);
            let place = *self.places.entry(hash).or_insert(next);
            if place == next {
                new.push((hash, image));
            }
            places.push(place);
        }
        for piece in new.chunks(PIECE) {
            let mut bytes: Vec<u8> = piece.iter().flat_map(|(_, image)| *image).copied().collect();
            bytes.resize(PIECE * size, 0);
            let images =
                Tensor::from_slice(&bytes).view([&[PIECE as i64, 1], shape.as_slice()].concat().as_slice());
            let images = images.to_device(policy.device()); // [P, 1, C, H, W]
            let embedded = policy.encoder.embed_images(&mut ForwardContext::bare(), &images);
            let embedded =
                embedded.expect("the policy reads images").narrow(0, 0, piece.len() as i64).flatten(0, -1);
            let embedded = embedded.to_device(Device::Cpu);
            self.vectors.extend(Vec::<f32>::try_from(&embedded).expect("embeddings are f32"));
        }
        let rows: Vec<f32> =
            places.iter().flat_map(|place| &self.vectors[*place..place + width]).copied().collect();
        if self.vectors.len() > self.most {
            self.vectors.truncate(before);
            new.iter().for_each(|(hash, _)| {
                self.places.remove(hash);
            });
        }
        Tensor::from_slice(&rows).view([-1, width as i64]).to_device(policy.device())
    }
}
