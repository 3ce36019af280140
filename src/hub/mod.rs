//! The Hugging Face Hub: policies and adapters by name, datasets by minari's names, and uploads.
//!
//! A user's path goes through [`local`] or [`dataset`] where it is first read; all other code sees folders.

mod cache;
mod client;
mod download;
mod error;
mod minari;
mod name;
mod push;
mod settings;
mod snapshot;
mod wanted;

use std::path::{Path, PathBuf};

pub use client::Client;
pub use error::HubError;
pub use name::{HubName, is_commit, is_repo};
pub use push::{Push, Upload, push};
pub use settings::Settings;
pub use wanted::{shards, wanted};

/// Where a user's policy or adapter lies on this machine: the path itself where it is no name of the Hub.
pub fn local(path: &Path) -> anyhow::Result<PathBuf> {
    match HubName::of(path) {
        None => Ok(path.to_owned()),
        Some(name) => {
            let found = name.and_then(|name| snapshot::snapshot(&name));
            found.map(|found| found.local).map_err(HubError::for_command)
        }
    }
}

/// The commit that a user's path means, if it is a name of the Hub.
pub fn commit(path: &Path) -> anyhow::Result<Option<String>> {
    let Some(name) = HubName::of(path) else { return Ok(None) };
    let found = name.and_then(|name| snapshot::snapshot(&name));
    found.map(|found| Some(found.commit)).map_err(HubError::for_command)
}

/// The folder of a user's dataset: the path itself where it is no name.
pub fn dataset(path: &Path) -> anyhow::Result<PathBuf> {
    minari::dataset(path).map_err(HubError::for_command)
}

/// A path at a commit, where it is a name of the Hub and a commit is given.
pub fn at_commit(path: &Path, commit: Option<&str>) -> PathBuf {
    match (HubName::of(path), commit) {
        (Some(Ok(name)), Some(commit)) => name.at(commit).to_path(),
        _ => path.to_owned(),
    }
}
