//! `eva-rl` adapts pretrained decision-transformer policies: EVA initialisation, offline updates,
//! online rollouts, evaluation.
//!
//! The program is a library so that a user's own can be the same with environments of their own:
//! `examples/custom_env.rs`.

mod cli;
mod commands;
mod config;
mod data;
mod evaluation;
mod hub;
mod metrics;
pub mod parity;
mod policies;
pub mod reference;
mod report;
mod rollout;
mod run_folder;
mod support;
mod training;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::support::{errors, malloc, signals, threads};

/// Environments, of which a user may [`envs::register`] more.
pub use eva_rl_envs as envs;

/// The whole program: takes the command line, and answers with the exit code. It may start the process again
/// from its beginning, with a variable set ([`threads`]).
pub fn run() -> ExitCode {
    malloc::keep();
    let Cli { command, threads } = Cli::parse();
    let outcome = threads::begin(threads).and_then(|()| match command {
        Command::Init(args) => commands::init::run(args),
        Command::Train(args) => commands::train::run(args),
        Command::Evaluate(args) => commands::evaluate::run(args),
        Command::Collect(args) => commands::collect::run(args),
        Command::Convert(args) => commands::convert::run(args),
        Command::Eva(args) => commands::eva::run(args),
        Command::Merge(args) => commands::merge::run(args),
        Command::Predict(args) => commands::predict::run(args),
        Command::Inspect(args) => commands::inspect::run(args),
        Command::Envs(args) => commands::envs::run(args),
        Command::Bench(args) => commands::bench::run(args),
        Command::Sweep(args) => commands::sweep::run(args),
        Command::Completions(args) => commands::completions::run(args),
        Command::Push(args) => commands::push::run(args),
        Command::Report(args) => commands::report::run(args),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errors::tell(&format!("eva-rl: {error:#}"));
            if let Some(stopped) = error.downcast_ref::<signals::Stopped>() {
                signals::end_by(stopped.signal);
            }
            ExitCode::from(errors::exit_code(&error))
        }
    }
}
