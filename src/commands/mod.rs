//! The commands, one file each; a command is one function that reads from top to bottom.

pub mod bench;
pub mod collect;
pub mod envs;
pub mod eva;
pub mod evaluate;
pub mod inspect;
pub mod merge;
pub mod predict;
pub mod report;
pub mod sweep;
pub mod train;

use std::io::{ErrorKind, Write};

use anyhow::Context;
use signal_hook::consts::SIGPIPE;

use crate::interrupt;

/// Prints a result on stdout. Where its reader has gone (`| head -1`), the program ends in silence by
/// SIGPIPE, as others do; the signal itself is not taken, because it would come from workers' sockets too.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => interrupt::end_by(SIGPIPE),
        written => written.context("cannot write to stdout"),
    }
}

/// Prints a JSON document on stdout.
fn print_json(document: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&serde_json::to_string_pretty(document)?)
}
