//! Decision transformers, adapters, EVA, losses and optimisers: tensors, and no environments.

pub mod shape;

pub mod site;

pub mod tensor_file;

pub mod adapter;

pub mod linalg;

mod dropout;

pub mod pass;

pub mod nn;

pub mod fold;

pub mod model;

mod threads;

pub mod eva;

pub mod clipped_normal;

pub mod objective;

pub mod optimiser;

pub mod critics;

pub mod policy_gradient;

pub mod methods;

/// The first line of a libtorch error; the rest is a C++ backtrace.
pub fn first_line(error: &tch::TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
