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
use crate::support::{malloc, ranks, threads};

/// Environments, of which a user may [`envs::register`] more.
pub use eva_rl_envs as envs;

/// The whole program: takes the command line, and answers with the exit code. It may start the process again
/// from its beginning, with a variable set ([`threads`]).
pub fn run() -> ExitCode {
    malloc::keep();
    let joined = ranks::begin();
    let Cli { command, threads } = Cli::try_parse().unwrap_or_else(|refused| ranks::refuse(&refused));
    let outcome = joined.and_then(|()| threads::begin(threads)).and_then(|()| match command {
        _ if !is_shared(&command) && ranks::leaves_to_first() => Ok(()),
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
        Command::Subspaces(args) => commands::subspaces::run(args),
    });
    ranks::end(outcome)
}

/// Whether several ranks share a command's work; of others the first does it alone.
fn is_shared(command: &Command) -> bool {
    use Command::{Collect, Eva, Evaluate, Sweep, Train};
    matches!(command, Train(_) | Evaluate(_) | Collect(_) | Eva(_) | Sweep(_))
}
