//! How a command fails: by the user's input (exit 2), or in the run (exit 1).

use std::fmt;
use std::path::{Path, PathBuf};

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

/// Refuses an output that exists already.
pub fn refuse_existing(path: &Path) -> anyhow::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(InputError(format!("{path:?} exists already; name a new one")).into());
    }
    Ok(())
}

/// Makes a folder aside with `fill`, then gives it its name, so that it is whole or absent.
pub fn write_folder(folder: &Path, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let aside = aside(folder);
    let written = (|| {
        std::fs::create_dir_all(&aside)?;
        fill(&aside)?;
        std::fs::rename(&aside, folder)?;
        Ok(())
    })();
    written.map_err(|error: anyhow::Error| {
        let _ = std::fs::remove_dir_all(&aside);
        error.context(format!("cannot write {folder:?}"))
    })
}

/// A sibling that no reader takes for the real thing.
fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

/// A message to the user, on stderr; stdout is for results.
#[allow(clippy::print_stderr)] // the one place
pub fn tell(message: &str) {
    eprintln!("{message}");
}
