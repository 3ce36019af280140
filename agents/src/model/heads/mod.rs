//! Heads: what is read of the trunk's outputs; actions are continuous, discrete or binned.

pub mod bins;

mod action;

pub use action::{mean, mode};

use crate::model::core::layers::Module;

/// The heads of a policy.
#[derive(Debug)]
pub struct Heads {
    /// What the action head begins with, a leaky ReLU after each: D → D.
    pub hidden: Vec<Module>,
    /// The next action: D → A, or A · bins.
    pub action: Module,
    /// The next state, if the family predicts it: D → S.
    pub state: Option<Module>,
    /// The next return-to-go, if the family predicts it: D → 1.
    pub returns: Option<Module>,
}
