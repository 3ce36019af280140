//! The program `eva-rl`; see its library.

use std::process::ExitCode;

fn main() -> ExitCode {
    eva_rl::run()
}
