//! How a command fails: by the user's input (exit 2), or in the run (exit 1).

use std::fmt;
use std::io::Write;

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

/// 2 for the user's input, 1 for the rest.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<InputError>() { 2 } else { 1 }
}

/// A message to the user, on stderr; stdout is for results. A run goes on where nobody reads it.
pub fn tell(message: &str) {
    let _nobody_reads = writeln!(std::io::stderr(), "{message}");
}
