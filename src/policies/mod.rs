//! Policies and adapters that a user names, and what predictions read.

mod base;
mod data_statistics;
mod grid;
mod inputs;
mod new_task;
mod reading;
mod source;
mod task_env;

pub use base::Base;
pub use data_statistics::{take_statistics_of, write_statistics};
pub use inputs::{fitted_to, read_inputs};
pub use new_task::{action_mean, task_of_data, write_new_tasks};
pub use reading::*;
pub use source::{Source, read_merged};
pub use task_env::{TaskEnv, env_of_task, known_tasks};
