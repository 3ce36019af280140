//! What the program writes is new, and whole or absent.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::Builder;

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
    let write = || {
        let parent = parent(folder);
        std::fs::create_dir_all(parent)?;
        let aside = with_aside_name(folder, |builder| {
            builder.permissions(Permissions::from_mode(0o777)).tempdir_in(parent) // less the umask
        })?;
        fill(aside.path())?;
        sync(aside.path())?;
        std::fs::rename(aside.path(), folder)?;
        let _renamed = aside.keep();
        Ok(sync_parent(folder)?)
    };
    write().map_err(|error: anyhow::Error| error.context(format!("cannot write {folder:?}")))
}

/// Makes a folder aside with `fill`, then puts it in the place of the one of that name.
pub fn replace_folder(folder: &Path, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let [new, old] = ["new", "old"].map(|mark| folder.with_file_name(format!(".{name}.{mark}")));
    for left_over in [&new, &old] {
        if left_over.exists() {
            std::fs::remove_dir_all(left_over)?; // a kill came between the renames
        }
    }
    write_folder(&new, fill)?;
    if folder.exists() {
        std::fs::rename(folder, &old)?;
    }
    std::fs::rename(&new, folder)?;
    sync_parent(folder)?;
    if old.exists() {
        std::fs::remove_dir_all(&old)?;
    }
    Ok(())
}

/// Makes one file aside with `fill`, then gives it its name.
pub fn write_file(path: &Path, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let write = || {
        let aside = with_aside_name(path, |builder| {
            builder.permissions(Permissions::from_mode(0o666)).tempfile_in(parent(path)) // less the umask
        })?;
        fill(aside.path())?;
        File::open(aside.path())?.sync_all()?;
        aside.persist(path)?;
        Ok(sync_parent(path)?)
    };
    write().map_err(|error: anyhow::Error| error.context(format!("cannot write {path:?}")))
}

/// Waits until a folder's files and their names are on the disk: a power cut must not leave a name without them.
fn sync(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => sync(&path)?,
            false => File::open(&path)?.sync_all()?,
        }
    }
    File::open(folder)?.sync_all()
}

/// Waits until the name of a path is on the disk. Some file systems cannot say, and have done what they can.
fn sync_parent(path: &Path) -> std::io::Result<()> {
    match File::open(parent(path))?.sync_all() {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

/// The folder that a path lies in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes what no reader takes for `path`, beside it.
fn with_aside_name<T>(path: &Path, make: impl FnOnce(&mut Builder) -> T) -> T {
    let prefix = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
    make(Builder::new().prefix(&prefix).suffix(".tmp"))
}

/// Whether a name is that of something made aside.
pub fn is_aside(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_there_whole_and_for_whoever_the_umask_lets_read() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let [plain, made] = ["plain", "made"].map(|name| folder.path().join(name));
        std::fs::write(&plain, "").unwrap();
        write_file(&made, |aside| Ok(std::fs::write(aside, "text")?)).unwrap();
        assert_eq!((std::fs::read_to_string(&made).unwrap().as_str(), mode(&made)), ("text", mode(&plain)));
        let [plain, made] = ["plain_folder", "made_folder"].map(|name| folder.path().join(name));
        std::fs::create_dir(&plain).unwrap();
        for text in ["first", "second"] {
            replace_folder(&made, |aside| Ok(std::fs::write(aside.join("file"), text)?)).unwrap();
            let found = std::fs::read_to_string(made.join("file")).unwrap();
            assert_eq!((found.as_str(), mode(&made)), (text, mode(&plain)));
        }
        write_folder(&folder.path().join("failed"), |_| anyhow::bail!("no")).unwrap_err();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4, "nothing is left aside");
    }
}
