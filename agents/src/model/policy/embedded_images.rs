//! The images that episodes have shown, each embedded once.
//!
//! What the encoder makes of an image depends on neither its place in a window nor its neighbours, so for acting it is
//! computed when the image is shown, and kept while a window can hold it.

use tch::{Kind, Tensor};

use super::transformer::TransformerPolicy;
use crate::model::core::forward::ForwardContext;

/// The embeddings of the last K images of N episodes. That of step t stands in the place of step t − K.
#[derive(Debug)]
pub struct EmbeddedImages {
    /// `[N, K, D]`.
    places: Tensor,
}

impl EmbeddedImages {
    /// Nothing yet of `rows` episodes, for windows of at most `longest` steps; none where `policy` reads no images.
    pub fn new(policy: &TransformerPolicy, rows: usize, longest: usize) -> Option<Self> {
        policy.config().image_shape?;
        let shape = [rows as i64, longest as i64, policy.trunk.width()];
        Some(Self { places: Tensor::zeros(shape, (Kind::Float, policy.device())) })
    }

    /// Embeds the latest images `[R, C, H, W]` of the episodes in `rows`, which have shown `seen` of them each.
    pub fn push(&mut self, policy: &TransformerPolicy, rows: &[usize], seen: &[usize], images: &Tensor) {
        let images = images.to_device(policy.device()).unsqueeze(1); // [R, 1, C, H, W]
        let embedded = policy.encoder.embed_images(&mut ForwardContext::bare(), &images);
        let embedded = embedded.expect("the policy reads images"); // [R, 1, D]
        let (_, longest, width) = self.places.size3().expect("places are [N, K, D]");
        let places: Vec<i64> = rows
            .iter()
            .zip(seen)
            .map(|(row, seen)| *row as i64 * longest + (*seen as i64 - 1) % longest)
            .collect();
        let places = Tensor::from_slice(&places).to_device(self.places.device()); // [R] of [N·K]
        let _ = self.places.view([-1, width]).index_copy_(0, &places, &embedded.view([-1, width]));
    }

    /// The embeddings of the last `steps` images of the episodes in `rows`, which have shown `seen` of them each:
    /// `[R, T, D]`. What stands before an episode's first image is padding, of any numbers.
    pub fn windows(&self, rows: &[usize], seen: &[usize], steps: usize) -> Tensor {
        let (_, longest, width) = self.places.size3().expect("places are [N, K, D]");
        let steps = steps as i64;
        let places: Vec<i64> = rows
            .iter()
            .zip(seen)
            .flat_map(|(row, seen)| {
                let first = *seen as i64 - steps;
                (first..first + steps).map(move |step| *row as i64 * longest + step.rem_euclid(longest))
            })
            .collect();
        let places = Tensor::from_slice(&places).to_device(self.places.device()); // [R·T] of [N·K]
        self.places.view([-1, width]).index_select(0, &places).view([rows.len() as i64, steps, width])
    }
}
