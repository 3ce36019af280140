//! The Hub's cache as Python's huggingface_hub has it: `blobs` by their hashes, and `snapshots` of links to them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::client::Client;
use super::download::{RemoteFile, cannot_write, lock};
use super::error::HubError;
use super::name::{HubName, is_commit};

/// The folder of one model in the cache.
pub struct CachedRepo {
    root: PathBuf,
    locks: PathBuf,
}

impl CachedRepo {
    /// Where a repository's files are kept.
    pub fn of(cache: &Path, name: &HubName) -> Self {
        let folder = format!("models--{}", name.repo.replace('/', "--"));
        Self { root: cache.join(&folder), locks: cache.join(".locks").join(folder) }
    }

    /// The commit that a revision was when it was last asked for.
    pub fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.root.join("refs").join(revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Notes which commit a revision is.
    pub fn note(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if is_commit(revision) || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.root.join("refs").join(revision);
        let write = || {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            let aside = path.with_extension(format!("{}.tmp", std::process::id()));
            fs::write(&aside, commit)?;
            fs::rename(&aside, &path)
        };
        write().map_err(|error| cannot_write(&path, &error))
    }

    /// The folder of a commit's files.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// The names of all files of a commit that are at hand.
    pub fn files(&self, commit: &str) -> Vec<String> {
        let root = self.snapshot(commit);
        let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            for path in entries.map(|entry| entry.path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if let (true, Ok(name)) = (path.is_file(), path.strip_prefix(&root)) {
                    found.push(name.to_string_lossy().into_owned());
                }
            }
        }
        found.sort();
        found
    }

    /// Whether a file of a commit is at hand.
    pub fn has(&self, commit: &str, file: &str) -> bool {
        self.snapshot(commit).join(file).is_file()
    }

    /// Downloads a file of a commit, unless its blob is there, and links to it.
    pub fn take(
        &self,
        client: &Client,
        commit: &str,
        file: &str,
        remote: &RemoteFile,
        bar: &ProgressBar,
    ) -> Result<(), HubError> {
        let blobs = self.root.join("blobs");
        let (blob, incomplete) =
            (blobs.join(&remote.hash), blobs.join(format!("{}.incomplete", remote.hash)));
        fs::create_dir_all(&blobs).map_err(|error| cannot_write(&blobs, &error))?;
        let _lock = lock(&self.locks.join(format!("{}.lock", remote.hash)), &remote.name)?;
        if blob.is_file() {
            bar.inc(remote.size);
        } else {
            remote.fetch(client, &blob, &incomplete, bar)?;
        }
        let link = self.snapshot(commit).join(file);
        let up = "../".repeat(2 + file.matches('/').count());
        let make = || {
            link.parent().map_or(Ok(()), fs::create_dir_all)?;
            if link.symlink_metadata().is_ok() {
                fs::remove_file(&link)?; // it leads nowhere
            }
            symlink(format!("{up}blobs/{}", remote.hash), &link)
        };
        make().map_err(|error| cannot_write(&link, &error))
    }
}
