//! `completions`: a script for a shell, from the command line's own description.

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs};
use crate::support::stdout::print;

/// Runs `completions`.
pub fn run(args: CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "eva-rl", &mut script);
    print(String::from_utf8(script)?.trim_end())
}
