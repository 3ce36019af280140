//! What every environment has to do with: tasks and batches of them, spaces, contracts, seeds, options, errors.

pub mod actions;
pub mod controller;
pub mod error;
pub mod kwargs;
pub mod registered;
pub mod seeding;
pub mod space;
pub mod spec;
pub mod task;
pub mod vec_env;
pub mod worker_failure;
