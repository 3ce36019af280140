//! The commands, one file each; a command is one function that reads from top to bottom.

pub mod bench;
pub mod collect;
pub mod completions;
pub mod envs;
pub mod eva;
pub mod evaluate;
pub mod init;
pub mod inspect;
pub mod merge;
pub mod predict;
pub mod report;
pub mod sweep;
pub mod train;

use std::io::Write;

use anyhow::Context;

/// Prints a result on stdout.
fn print(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("cannot write to stdout")
}

/// Prints a JSON document on stdout.
fn print_json(document: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&serde_json::to_string_pretty(document)?)
}
