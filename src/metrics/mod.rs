//! Every number that a run reports: declared once, written to TensorBoard and to `metrics.jsonl`.

mod catalogue;
mod episodes;
mod events;
mod recorder;
mod summaries;

pub use catalogue::*;
pub use recorder::{Line, Place, Recorder};
