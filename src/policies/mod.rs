//! Policies and adapters that a user names, and what predictions read.

mod base;
mod inputs;
mod reading;
mod source;

pub use base::Base;
pub use inputs::{fitted_to, read_inputs};
pub use reading::*;
pub use source::Source;
