//! Explained variance adaptation (EVA, arXiv 2410.07170): A is initialised with the principal components of a frozen
//! model's activations over the new task's data.
//!
//! Per linear module: the leading right-singular vectors of its input activations over batches of the data, ranks
//! allocated by explained variance, `A` the first vectors as rows, `B = 0`.
//! Nothing here knows what a model is: it shows the inputs of its modules to a [`Tap`](crate::model::Tap).

mod ablations;
mod allocation;
mod input;
mod options;
mod outcome;
mod recorder;
mod search;
#[cfg(test)]
mod tests;

pub use allocation::allocate;
pub use input::SharedInput;
pub use options::{Allocation, Components, EvaOptions, PATCHES, SolverKind, StopRule};
pub use outcome::{EvaError, EvaResult, Progress, SiteReport};
pub use search::Eva;
