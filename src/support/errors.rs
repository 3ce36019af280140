//! How a command fails: by the user's input (exit 2), or in the run (exit 1).

use std::fmt;
use std::io::Write;

use eva_rl_envs::EnvError;

use crate::support::progress::above_bars;
use crate::support::silence::is_silent;

/// A wrong input: the user can mend it, and nothing was written.
#[derive(Debug)]
pub struct InputError(pub String);

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InputError {}

/// Marks what a fallible reading of the user's input says as the user's to mend.
pub trait OrInput<T> {
    /// The same, as an [`InputError`].
    fn or_input(self) -> anyhow::Result<T>;
}

impl<T, E: fmt::Display> OrInput<T> for Result<T, E> {
    fn or_input(self) -> anyhow::Result<T> {
        self.map_err(|error| InputError(error.to_string()).into())
    }
}

/// The same of an environment: its failures that the user cannot fix stay the run's.
pub fn env_failure(error: EnvError) -> anyhow::Error {
    if error.is_input() { InputError(error.to_string()).into() } else { error.into() }
}

/// 2 for the user's input, 1 for the rest.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<InputError>() { 2 } else { 1 }
}

/// A message to the user, on stderr; stdout is for results. A run goes on where nobody reads it.
pub fn tell(message: &str) {
    if !is_silent() {
        tell_always(message);
    }
}

/// The same of a rank that is silent otherwise.
pub fn tell_always(message: &str) {
    above_bars(|| {
        let _nobody_reads = writeln!(std::io::stderr(), "{}", on_a_screen(message));
    });
}

/// Characters of a line and lines of a message that are shown: what foreign files hold may be of any length.
const SHOWN: (usize, usize) = (1000, 40);

/// The message, with the middle of long lines and the end of many lines left out.
fn on_a_screen(message: &str) -> String {
    let short = |line: &str| {
        let count = line.chars().count();
        if count <= SHOWN.0 {
            return line.to_owned();
        }
        let first: String = line.chars().take(SHOWN.0 * 2 / 3).collect();
        let last: String = line.chars().skip(count - SHOWN.0 / 3).collect();
        format!("{first} … {last}")
    };
    let mut lines: Vec<String> = message.lines().take(SHOWN.1).map(short).collect();
    let more = message.lines().count() - lines.len();
    if more > 0 {
        lines.push(format!("… and {more} more lines"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_is_longer_than_a_screen() {
        assert_eq!(on_a_screen("one\n  two"), "one\n  two");
        let long = on_a_screen(&format!("it is {}, expected a number", "x".repeat(100_000)));
        assert!(long.chars().count() < 1010 && long.ends_with("expected a number"), "{long}");
        assert!(on_a_screen(&"line\n".repeat(100)).ends_with("line\n… and 60 more lines"));
    }
}
