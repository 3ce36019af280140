//! `eva-rl` adapts pretrained decision-transformer policies: EVA initialisation, offline updates,
//! online rollouts, evaluation.
//!
//! The program is a library so that a user's own can be the same with environments of their own:
//! `examples/custom_env.rs`.

mod agent;
mod checkpoint;
mod cli;
mod commands;
mod config;
mod data;
mod evaluation;
mod failure;
mod film;
mod guard;
mod heap;
mod initialise;
mod inputs;
mod interrupt;
mod learner;
mod metrics;
mod model_card;
mod online;
mod output;
mod rank_map;
mod report;
mod rng;
mod rollout;
mod run;
mod run_dir;
mod source;
mod threads;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

/// Environments, of which a user may [`envs::register`] more.
pub use eva_rl_envs as envs;

/// The whole program: takes the command line, and answers with the exit code. It may start the process anew
/// from its beginning, with a variable set ([`threads`]).
pub fn run() -> ExitCode {
    heap::keep();
    let Cli { command, threads } = Cli::parse();
    let outcome = threads::begin(threads).and_then(|()| match command {
        Command::Init(args) => commands::init::run(args),
        Command::Train(args) => commands::train::run(args),
        Command::Evaluate(args) => commands::evaluate::run(args),
        Command::Collect(args) => commands::collect::run(args),
        Command::Eva(args) => commands::eva::run(args),
        Command::Merge(args) => commands::merge::run(args),
        Command::Predict(args) => commands::predict::run(args),
        Command::Inspect(args) => commands::inspect::run(args),
        Command::Envs(args) => commands::envs::run(args),
        Command::Bench(args) => commands::bench::run(args),
        Command::Sweep(args) => commands::sweep::run(args),
        Command::Completions(args) => commands::completions::run(args),
        Command::Report(args) => commands::report::run(args),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            failure::tell(&format!("eva-rl: {error:#}"));
            if let Some(stopped) = error.downcast_ref::<interrupt::Stopped>() {
                interrupt::end_by(stopped.signal);
            }
            ExitCode::from(failure::exit_code(&error))
        }
    }
}
