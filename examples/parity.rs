//! Plays parity folders, and prints each case's worst difference from the reference: `-- FOLDER...`.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    eva_rl::parity::run(&folders)
}
