//! A policy's tensors by name: of what shape each is, and how a new policy draws it.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

/// How a new policy's tensor is initialised.
#[derive(Clone, Copy, Debug)]
pub enum Initial {
    /// Normal with this standard deviation.
    Normal(f64),
    /// Every entry the same.
    Constant(f64),
}

/// A tensor that a policy's files hold.
#[derive(Clone, Debug)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// How a new one is initialised.
    pub initial: Initial,
}

/// Draws the tensors of a new policy from torch's generator.
pub fn draw(layout: &[TensorSpec], device: Device) -> BTreeMap<String, Tensor> {
    let mut weights = BTreeMap::new();
    for TensorSpec { name, shape, initial } in layout {
        let tensor = match *initial {
            Initial::Normal(std) => Tensor::empty(shape, (Kind::Float, device)).normal_(0.0, std),
            Initial::Constant(value) => Tensor::full(shape, value, (Kind::Float, device)),
        };
        weights.insert(name.clone(), tensor);
    }
    weights
}
