//! A run under way: what it trains, where it stands, and what is due between its updates.

mod learner;
mod non_finite;
mod run;
mod window_reader;

pub use learner::{ADAPTER_SCALE, Learner, UpdateLoss};
pub use run::{BatchPart, Explorer, Run, RunLog};
pub use window_reader::WindowReader;
