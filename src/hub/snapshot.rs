//! A name of the Hub as a folder of this machine: what is not in the cache is downloaded, once a run.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::cache::CachedRepo;
use super::client::{Client, quoted};
use super::download::RemoteFile;
use super::error::HubError;
use super::name::{HubName, is_commit};
use super::settings::Settings;
use super::wanted::{shards, wanted};
use crate::support::errors::tell;
use crate::support::progress;

/// Where a name's files are, and of which commit they are.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The folder, or the file that the name means.
    pub local: PathBuf,
    /// The whole commit.
    pub commit: String,
}

/// What this program has found before; a name means one commit for as long as it runs.
static FOUND: LazyLock<Mutex<HashMap<HubName, Snapshot>>> = LazyLock::new(Mutex::default);

/// The files that `name` means, downloaded where the cache lacks them.
pub fn snapshot(name: &HubName) -> Result<Snapshot, HubError> {
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(snapshot) = found.get(name) {
        return Ok(snapshot.clone());
    }
    let snapshot = find(name)?;
    found.insert(name.at(&snapshot.commit), snapshot.clone());
    found.insert(name.clone(), snapshot.clone());
    Ok(snapshot)
}

fn find(name: &HubName) -> Result<Snapshot, HubError> {
    let settings = Settings::of_environment();
    let repo = CachedRepo::of(&settings.cache, name);
    if settings.offline {
        let snapshot = cached(name, &repo, &settings).map_err(|lacks| {
            HubError::Input(format!(
                "HF_HUB_OFFLINE is set, and {lacks}; expected it to be downloaded before"
            ))
        })?;
        tell_commit(name, &snapshot, "from the cache");
        return Ok(snapshot);
    }
    let client = Client::new(settings)?;
    let address = client.at(&format!("api/models/{}/revision/{}", name.repo, quoted(name.revision(), "")));
    let listed = match client.json(&address, &name.to_string()) {
        Err(HubError::Unreachable { server, reason }) => {
            let lost = format!("cannot reach {server}: {reason}");
            let snapshot = cached(name, &repo, &client.settings)
                .map_err(|lacks| HubError::Failed(format!("{lost}; and {lacks}")))?;
            tell(&lost);
            tell_commit(name, &snapshot, "from the cache");
            return Ok(snapshot);
        }
        listed => listed?,
    };
    let strange = || {
        HubError::Failed(format!(
            "{address} names no commit and no files, expected a server that speaks the Hub's protocol"
        ))
    };
    let commit = listed["sha"].as_str().filter(|commit| is_commit(commit)).ok_or_else(strange)?;
    let siblings = listed["siblings"].as_array().ok_or_else(strange)?;
    let files: Vec<String> =
        siblings.iter().filter_map(|file| Some(file["rfilename"].as_str()?.to_owned())).collect();
    let files = wanted(name, &files)?;
    let mut bytes = download(&client, name, &repo, commit, &files)?;
    bytes += download(&client, name, &repo, commit, &shards(&repo.snapshot(commit), &files))?;
    repo.note(name.revision(), commit)?;
    let snapshot = located(name, &repo, commit);
    let how = if bytes == 0 {
        "from the cache".to_owned()
    } else {
        format!("{} downloaded", progress::in_bytes(bytes))
    };
    tell_commit(name, &snapshot, &how);
    Ok(snapshot)
}

/// Brings those of `files` that the cache lacks; gives the bytes that this were.
fn download(
    client: &Client,
    name: &HubName,
    repo: &CachedRepo,
    commit: &str,
    files: &[String],
) -> Result<u64, HubError> {
    let mut remotes = Vec::new();
    for file in files.iter().filter(|file| !repo.has(commit, file)) {
        let address = client.at(&format!("{}/resolve/{commit}/{}", name.repo, quoted(file, "/")));
        let called = format!("`{file}` of hf:{}", name.repo);
        remotes.push((file, RemoteFile::ask(client, address, called)?));
    }
    let total = remotes.iter().map(|(_, remote)| remote.size).sum();
    let bar = progress::byte_bar(total, &name.repo);
    for (file, remote) in &remotes {
        repo.take(client, commit, file, remote, &bar)?;
    }
    bar.finish_and_clear();
    Ok(total)
}

/// What the cache has, or what it lacks, in words.
fn cached(name: &HubName, repo: &CachedRepo, settings: &Settings) -> Result<Snapshot, String> {
    let cache = &settings.cache;
    let Some(commit) = repo.commit(name.revision()).filter(|commit| repo.snapshot(commit).is_dir()) else {
        return Err(format!("{name} is not in the cache {cache:?}"));
    };
    let files = wanted(name, &repo.files(&commit))
        .map_err(|_| format!("the cache {cache:?} has {name} without its weights"))?;
    if let Some(shard) =
        shards(&repo.snapshot(&commit), &files).iter().find(|shard| !repo.has(&commit, shard))
    {
        return Err(format!("the cache {cache:?} has {name} without `{shard}`"));
    }
    Ok(located(name, repo, &commit))
}

fn located(name: &HubName, repo: &CachedRepo, commit: &str) -> Snapshot {
    let root = repo.snapshot(commit);
    let local = name.subfolder.as_ref().map_or(root.clone(), |folder| root.join(folder));
    Snapshot { local, commit: commit.to_owned() }
}

fn tell_commit(name: &HubName, snapshot: &Snapshot, how: &str) {
    let commit = &snapshot.commit;
    if name.revision.as_ref() == Some(commit) {
        tell(&format!("{name}: {how}"));
    } else {
        tell(&format!("{name} is at commit {commit}: {how}"));
    }
}
