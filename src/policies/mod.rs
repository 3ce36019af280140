//! Policies and adapters that a user names, and what predictions read.

mod inputs;
mod reading;
mod source;

pub use inputs::{fitted_to, read_inputs};
pub use reading::*;
pub use source::Source;
