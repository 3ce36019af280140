//! What every command leans on: errors and messages, files that are whole or absent, seeds, signals, threads.

pub mod atomic;
pub mod errors;
pub mod malloc;
pub mod progress;
pub mod ranks;
pub mod seeds;
pub mod signals;
pub mod silence;
pub mod stdout;
pub mod tables;
pub mod threads;
