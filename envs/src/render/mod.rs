//! Pictures of environments.

pub mod classic;
pub mod trig;

mod canvas;

pub use canvas::Frame;
