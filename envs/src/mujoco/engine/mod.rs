//! What the tasks share: simulations and their models, pictures, formulas.

pub mod body_view;
pub mod formulas;
pub mod gait;
pub mod simulation;
pub mod sums;
pub mod task;
pub mod view;

mod messages;
mod model;
mod pairs;
mod picture;
