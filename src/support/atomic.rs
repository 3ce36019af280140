//! What the program writes is new, and whole or absent.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

use crate::support::errors::InputError;

/// Refuses an output that exists already.
pub fn refuse_existing(path: &Path) -> anyhow::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(InputError(format!("{path:?} exists already; name a new one")).into());
    }
    Ok(())
}

/// A path that means the same from every folder.
pub fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

/// Makes a folder aside with `fill`, then gives it its name, so that it is whole or absent.
pub fn write_folder(folder: &Path, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let aside = aside(folder);
    let written = (|| {
        if let Some(parent) = aside.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::create_dir(&aside)?; // nobody's else, and no link
        fill(&aside)?;
        sync(&aside)?;
        std::fs::rename(&aside, folder)?;
        sync_parent(folder)?;
        Ok(())
    })();
    written.map_err(|error: anyhow::Error| {
        let _ = std::fs::remove_dir_all(&aside);
        error.context(format!("cannot write {folder:?}"))
    })
}

/// Makes one file aside with `fill`, then gives it its name.
pub fn write_file(path: &Path, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let aside = aside(path);
    let written = (|| {
        std::fs::File::create_new(&aside)?;
        fill(&aside)?;
        std::fs::File::open(&aside)?.sync_all()?;
        std::fs::rename(&aside, path)?;
        sync_parent(path)?;
        Ok(())
    })();
    written.map_err(|error: anyhow::Error| {
        let _ = std::fs::remove_file(&aside);
        error.context(format!("cannot write {path:?}"))
    })
}

/// Waits until a folder's files and their names are on the disk: a power cut must not leave a name without them.
fn sync(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => sync(&path)?,
            false => std::fs::File::open(&path)?.sync_all()?,
        }
    }
    std::fs::File::open(folder)?.sync_all()
}

/// Waits until the name of a path is on the disk. Some file systems cannot say, and have done what they can.
pub fn sync_parent(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match std::fs::File::open(parent)?.sync_all() {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

/// A sibling that no reader takes for the real thing, and no earlier process of this number has left.
fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mark = RandomState::new().hash_one(&name); // differs each time
    path.with_file_name(format!(".{name}.{mark:016x}.tmp"))
}

/// Whether a name is that of something made aside.
pub fn is_aside(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}
