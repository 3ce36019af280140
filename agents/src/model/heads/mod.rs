//! Heads: what is read of the trunk's outputs; actions are continuous, discrete or binned.

mod action;
mod image;

pub use action::{mean, mode};
pub use image::ImageDecoder;

pub use crate::model::core::bins;

use crate::model::core::layers::Module;

/// The heads of a policy.
#[derive(Debug)]
pub struct Heads {
    /// What the action head begins with, a leaky ReLU after each: D → D.
    pub hidden: Vec<Module>,
    /// Tokens of a step at which dimensions of its action are read, one each; 1 where all are read at one.
    pub reads_per_step: i64,
    /// The next action: D → A, or A · bins.
    pub action: Module,
    /// The next state, if the family predicts it: D → S.
    pub state: Option<Module>,
    /// The next return-to-go, if the family predicts it: D → 1.
    pub returns: Option<Module>,
    /// The next image, if the policy predicts it.
    pub image: Option<ImageDecoder>,
    /// The next token of a text, if the family reads such: D → vocabulary.
    pub text: Option<Module>,
}
