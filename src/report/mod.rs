//! Runs side by side: by task and method, over all tasks, and as figures.

pub mod eva_summary;

mod axis;
mod comparison;
mod figure;
mod groups;
mod html;
mod pairs;
mod panel;
mod reproduction;
mod series;
mod statistics;
mod table;
mod tables;
mod tabular;
mod target_sweep;
mod training;

pub use axis::Axis;
pub use comparison::{Comparison, Measure, label, warnings};
pub use figure::draw;
pub use html::page;
pub use reproduction::reproduction_text;
pub use tables::{check_axis, tables};
pub use tabular::Table;
pub use target_sweep::{draw_targets, target_table};
