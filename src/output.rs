//! What the program writes is new, and whole or absent.

use std::path::{Path, PathBuf};

use crate::failure::InputError;

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
        sync(&aside)?;
        std::fs::rename(&aside, folder)?;
        Ok(())
    })();
    written.map_err(|error: anyhow::Error| {
        let _ = std::fs::remove_dir_all(&aside);
        error.context(format!("cannot write {folder:?}"))
    })
}

/// Writes a file aside, then gives it its name, so that it is whole or absent.
pub fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
    let aside = aside(path);
    let written = (|| {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&aside, text)?;
        std::fs::File::open(&aside)?.sync_all()?;
        std::fs::rename(&aside, path)
    })();
    written.map_err(|error| {
        let _ = std::fs::remove_file(&aside);
        anyhow::Error::from(error).context(format!("cannot write {path:?}"))
    })
}

/// Waits until a folder's files are on the disk: a power cut must not leave a name without them.
fn sync(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => sync(&path)?,
            false => std::fs::File::open(&path)?.sync_all()?,
        }
    }
    Ok(())
}

/// A sibling that no reader takes for the real thing.
fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}
