//! Datasets by name, `minari:NAMESPACE/NAME` or `hf://OWNER/NAMESPACE/NAME`: in the folder where minari keeps them,
//! downloaded into it where they are not.

use std::fs;
use std::path::{Path, PathBuf};

use super::client::{Client, quoted};
use super::download::{RemoteFile, cannot_write, lock};
use super::error::HubError;
use super::name::is_safe;
use super::settings::{Settings, minari_folder, minari_remote};
use crate::support::errors::tell;
use crate::support::progress;

/// What minari calls the file that describes a namespace.
const NAMESPACE_FILE: &str = "namespace_metadata.json";

/// A dataset's id, and the owner whose datasets are searched for it.
#[derive(Clone, Debug, PartialEq)]
struct DatasetName {
    /// What `MINARI_REMOTE` says where the name itself does not.
    owner: Option<String>,
    /// Such as `D4RL/door/human-v2`.
    id: String,
}

impl DatasetName {
    /// The name that a user's `path` is, if it is one.
    fn of(path: &Path) -> Option<Result<Self, HubError>> {
        let text = path.to_str()?;
        let refused = || {
            HubError::Input(format!(
                "{text:?} names no dataset, expected minari:NAMESPACE/NAME-vN or hf://OWNER/NAMESPACE/NAME-vN, such as minari:D4RL/door/human-v2"
            ))
        };
        let name = if let Some(id) = text.strip_prefix("minari:") {
            Some((None, id))
        } else if let Some(rest) = text.strip_prefix("hf://") {
            rest.split_once('/').map(|(owner, id)| (Some(owner.to_owned()), id))
        } else if text.starts_with("hf:") {
            None
        } else {
            return None;
        };
        let name = name.map(|(owner, id)| Self { owner, id: id.to_owned() });
        Some(name.filter(|name| is_id(&name.id)).ok_or_else(refused))
    }

    /// The repository's name among its owner's, and the folder in it.
    fn place(&self) -> (&str, &str) {
        self.id.split_once('/').unwrap_or((&self.id, ""))
    }
}

/// Whether a text is a dataset's id, as minari reads it.
fn is_id(id: &str) -> bool {
    let version = id.rsplit_once("-v").map_or("", |(_, version)| version);
    let is_plain = |c: char| c.is_alphanumeric() || "-_/.".contains(c);
    is_safe(id)
        && id.chars().all(is_plain)
        && !version.is_empty()
        && version.bytes().all(|b| b.is_ascii_digit())
}

/// The folder of a user's dataset: the path itself where it is no name.
pub fn dataset(path: &Path) -> Result<PathBuf, HubError> {
    let Some(name) = DatasetName::of(path) else { return Ok(path.to_owned()) };
    let name = name?;
    let folder = minari_folder().join(&name.id);
    if folder.join("data").is_dir() {
        return Ok(folder);
    }
    let settings = Settings::of_environment();
    let id = &name.id;
    if settings.offline {
        return Err(HubError::Input(format!(
            "HF_HUB_OFFLINE is set, and the dataset {id} is not in {:?}; expected it to be downloaded before",
            minari_folder()
        )));
    }
    let remote = name.owner.clone().map_or_else(minari_remote, |owner| format!("hf://{owner}"));
    let Some(owner) = remote.strip_prefix("hf://") else {
        return Err(HubError::Input(format!(
            "MINARI_REMOTE is {remote:?}, expected hf://OWNER; `minari download {id}` reads other servers"
        )));
    };
    download(&Client::new(settings)?, owner, &name, &folder)?;
    Ok(folder)
}

/// Downloads a dataset aside, with the files of its namespaces, and gives it its name.
fn download(client: &Client, owner: &str, name: &DatasetName, folder: &Path) -> Result<(), HubError> {
    let (repo, below) = name.place();
    let id = &name.id;
    let whose = format!("dataset hf://{owner}/{repo}");
    let address = client.at(&format!("api/datasets/{owner}/{repo}/revision/main"));
    let listed = client.json(&address, &whose)?;
    let siblings = listed["siblings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let files: Vec<&str> = siblings.iter().filter_map(|file| file["rfilename"].as_str()).collect();
    let commit = listed["sha"].as_str().unwrap_or("main");
    let prefix = if below.is_empty() { "data/".to_owned() } else { format!("{below}/data/") };
    let is_taken = |file: &&str| !file.contains('/') && (file.ends_with(".hdf5") || file.ends_with(".json"));
    let data: Vec<&str> =
        files.iter().filter_map(|file| file.strip_prefix(&prefix)).filter(is_taken).collect();
    if !data.iter().any(|file| file.ends_with(".hdf5")) {
        return Err(HubError::Input(format!("{whose} has no {id}{}", nearest(repo, id, &files))));
    }
    let resolve =
        |file: &str| client.at(&format!("datasets/{owner}/{repo}/resolve/{commit}/{}", quoted(file, "/")));
    let ask = |file: &str| RemoteFile::ask(client, resolve(file), format!("`{file}` of the {whose}"));

    let last = folder.file_name().unwrap_or_default().to_string_lossy();
    let aside = folder.with_file_name(format!(".{last}.incomplete"));
    let _lock = lock(&folder.with_file_name(format!(".{last}.lock")), id)?;
    if folder.join("data").is_dir() {
        return Ok(()); // another program was faster
    }
    let remotes = data.iter().map(|file| Ok((*file, ask(&format!("{prefix}{file}"))?)));
    let remotes: Vec<(&str, RemoteFile)> = remotes.collect::<Result<_, HubError>>()?;
    let total = remotes.iter().map(|(_, remote)| remote.size).sum();
    let bar = progress::byte_bar(total, id);
    let inside = aside.join("data");
    fs::create_dir_all(&inside).map_err(|error| cannot_write(&inside, &error))?;
    for (file, remote) in &remotes {
        let (whole, begun) = (inside.join(file), inside.join(format!("{file}.{}.incomplete", remote.hash)));
        if whole.metadata().is_ok_and(|found| found.len() == remote.size) {
            bar.inc(remote.size);
        } else {
            remote.fetch(client, &whole, &begun, &bar)?;
        }
    }
    for namespace in namespaces(id) {
        let below = namespace.split_once('/').map_or("", |(_, below)| below);
        let file =
            if below.is_empty() { NAMESPACE_FILE.to_owned() } else { format!("{below}/{NAMESPACE_FILE}") };
        let local = minari_folder().join(namespace).join(NAMESPACE_FILE);
        if files.contains(&file.as_str()) && !local.exists() {
            ask(&file)?.fetch(client, &local, &local.with_extension("json.incomplete"), &bar)?;
        }
    }
    bar.finish_and_clear();
    fs::rename(&aside, folder).map_err(|error| cannot_write(folder, &error))?;
    let _tidied = fs::remove_file(folder.with_file_name(format!(".{last}.lock")));
    tell(&format!(
        "the dataset {id} of hf://{owner}: {} downloaded to {folder:?}",
        progress::in_bytes(total)
    ));
    Ok(())
}

/// A dataset's namespaces, the widest first: of `D4RL/door/human-v2` they are `D4RL` and `D4RL/door`.
fn namespaces(id: &str) -> impl Iterator<Item = &str> {
    id.match_indices('/').map(|(end, _)| &id[..end])
}

/// The datasets of a repository whose ids are most like one that it lacks.
fn nearest(repo: &str, id: &str, files: &[&str]) -> String {
    let mut known: Vec<String> = files
        .iter()
        .filter_map(|file| file.strip_suffix("/data/main_data.hdf5"))
        .map(|folder| format!("{repo}/{folder}"))
        .collect();
    known.sort_by(|a, b| strsim::jaro_winkler(b, id).total_cmp(&strsim::jaro_winkler(a, id)));
    known.truncate(3);
    if known.is_empty() { String::new() } else { format!("; near it are {}", known.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Result<(Option<String>, String), String>> {
        let name = DatasetName::of(Path::new(text))?;
        Some(name.map(|name| (name.owner, name.id)).map_err(|error| error.to_string()))
    }

    #[test]
    fn datasets_are_named_as_minari_names_them() {
        assert_eq!(parsed("datasets/here-v0"), None);
        assert_eq!(parsed("minari:D4RL/door/human-v2"), Some(Ok((None, "D4RL/door/human-v2".to_owned()))));
        assert_eq!(parsed("minari:alone-v0"), Some(Ok((None, "alone-v0".to_owned()))));
        assert_eq!(parsed("hf://me/a/b-v1"), Some(Ok((Some("me".to_owned()), "a/b-v1".to_owned()))));
        for wrong in [
            "minari:",
            "minari:D4RL/door",
            "minari:../x-v0",
            "minari:/x-v0",
            "hf://me",
            "hf:me/x-v0",
            "minari:a/b-vx",
        ] {
            assert!(
                parsed(wrong).unwrap().unwrap_err().contains("expected minari:NAMESPACE/NAME-vN"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn namespaces_lie_within_each_other() {
        assert_eq!(namespaces("D4RL/door/human-v2").collect::<Vec<_>>(), ["D4RL", "D4RL/door"]);
        assert_eq!(namespaces("alone-v0").count(), 0);
    }
}
