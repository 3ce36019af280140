//! `eva-rl` adapts pretrained decision-transformer policies: EVA initialisation, offline updates,
//! online rollouts, evaluation.

mod agent;
mod checkpoint;
mod cli;
mod commands;
mod config;
mod data;
mod evaluation;
mod failure;
mod film;
mod heap;
mod initialise;
mod inputs;
mod interrupt;
mod learner;
mod metrics;
mod model_card;
mod output;
mod rank_map;
mod rng;
mod rollout;
mod run_dir;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    heap::keep();
    let outcome = match Cli::parse().command {
        Command::Train(args) => commands::train::run(args),
        Command::Evaluate(args) => commands::evaluate::run(args),
        Command::Collect(args) => commands::collect::run(args),
        Command::Eva(args) => commands::eva::run(args),
        Command::Merge(args) => commands::merge::run(args),
        Command::Predict(args) => commands::predict::run(args),
        Command::Inspect(args) => commands::inspect::run(args),
        Command::Envs(args) => commands::envs::run(args),
        Command::Bench(args) => commands::bench::run(args),
        Command::Report(args) => commands::report::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            failure::tell(&format!("eva-rl: {error:#}"));
            ExitCode::from(failure::exit_code(&error))
        }
    }
}
