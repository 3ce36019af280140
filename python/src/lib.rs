//! The solvers and ranks of `eva-rl-agents` over activations that PyTorch's hooks see.
//!
//! Python knows models, and which of their modules are given the same input; here are sums over rows, when they
//! suffice, and what each module gets. Tensors cross without a copy.

mod all_reduce;
mod errors;
mod search;

use pyo3::prelude::*;

/// The extension of the package `eva_rl`.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<search::Search>()?;
    module.add_class::<search::Found>()
}
