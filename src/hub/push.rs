//! Uploads to the Hub: a repository, its large files, and a commit of all files at once.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::client::{Client, Sent, quoted};
use super::download::sha256_of;
use super::error::HubError;
use super::name::{HubName, is_commit};
use crate::support::progress;

/// What git's large file storage calls its JSON.
const LFS_JSON: &str = "application/vnd.git-lfs+json";

/// Bytes by which the Hub judges how a file is to be kept.
const SAMPLE: u64 = 512;

/// A file to be uploaded.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Its path in the repository.
    pub path: String,
    /// Where it lies.
    pub file: PathBuf,
}

/// Where the files go, and how this is told to others.
#[derive(Clone, Copy, Debug)]
pub struct Push<'a> {
    /// The repository; its branch is `name.revision()`.
    pub name: &'a HubName,
    /// Whether nobody else may see it.
    pub private: bool,
    /// What the commit says.
    pub message: &'a str,
}

/// What was uploaded.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The repository's page.
    pub url: String,
    /// The commit.
    pub commit: String,
}

/// A file, with what its upload needs.
struct Prepared<'a> {
    upload: &'a Upload,
    size: u64,
    sha256: String,
    sample: Vec<u8>,
    large: bool,
}

/// Uploads files in one commit; makes the repository and the branch where there are none.
pub fn push(client: &Client, push: Push, uploads: &[Upload]) -> Result<Pushed, HubError> {
    let (name, whose) = (push.name, push.name.to_string());
    if client.settings.offline {
        return Err(HubError::Input(
            "HF_HUB_OFFLINE is set, and `push` uploads, expected it to be unset".to_owned(),
        ));
    }
    if client.settings.token.is_none() {
        let text =
            "`push` needs a token that may write, and none is at hand; HF_TOKEN or `hf auth login` gives one";
        return Err(HubError::Input(text.to_owned()));
    }
    let mut files = uploads.iter().map(prepared).collect::<Result<Vec<_>, _>>()?;
    make_repository(client, push)?;
    let revision = quoted(name.revision(), "");
    if name.revision.is_some() && name.revision() != "main" {
        let address = client.at(&format!("api/models/{}/branch/{revision}", name.repo));
        send(client, &address, &json!({}), &[409], &whose)?; // 409: it is there
    }
    ask_how(client, name, &mut files)?;
    let large: Vec<&Prepared> = files.iter().filter(|file| file.large).collect();
    upload_large(client, name, &large)?;
    let mut lines = vec![json!({ "key": "header", "value": { "summary": push.message, "description": "" } })];
    for file in &files {
        let path = &file.upload.path;
        lines.push(if file.large {
            json!({ "key": "lfsFile", "value": { "path": path, "algo": "sha256", "oid": file.sha256, "size": file.size } })
        } else {
            let content = std::fs::read(&file.upload.file).map_err(|error| unreadable(&file.upload.file, &error))?;
            json!({ "key": "file", "value": { "path": path, "content": STANDARD.encode(content), "encoding": "base64" } })
        });
    }
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let address = client.at(&format!("api/models/{}/commit/{revision}", name.repo));
    let done = client.commit(&address, &text, &whose)?;
    let commit = done["commitOid"].as_str().filter(|commit| is_commit(commit));
    let commit = commit.ok_or_else(|| odd(client, "names no commit of", &whose))?.to_owned();
    let branch = if name.revision.is_some() { format!("/tree/{}", name.revision()) } else { String::new() };
    Ok(Pushed { url: client.at(&format!("{}{branch}", name.repo)), commit })
}

fn send(
    client: &Client,
    address: &str,
    value: &Value,
    accepted: &[u16],
    whose: &str,
) -> Result<Value, HubError> {
    let text = value.to_string();
    client.post(address, Sent::Text(text.as_bytes(), "application/json"), None, accepted, whose)
}

/// Makes the repository where there is none; refuses one that others can see where it is to be private.
fn make_repository(client: &Client, push: Push) -> Result<(), HubError> {
    let (owner, repo) = push.name.repo.split_once('/').expect("a name has both");
    let whose = push.name.to_string();
    let mut wish = json!({ "type": "model", "organization": owner, "name": repo });
    if push.private {
        wish["private"] = json!(true);
    }
    // 409: it is there; 403: it may be there, and only making one is forbidden, which the commit will show.
    send(client, &client.at("api/repos/create"), &wish, &[409, 403], &whose)?;
    if push.private {
        let found = client.json(&client.at(&format!("api/models/{}", push.name.repo)), &whose)?;
        if found["private"] != json!(true) {
            return Err(HubError::Input(format!(
                "{whose} is public, and --private is given; nothing is uploaded"
            )));
        }
    }
    Ok(())
}

fn prepared(upload: &Upload) -> Result<Prepared<'_>, HubError> {
    let read = || {
        let file = File::open(&upload.file)?;
        let size = file.metadata()?.len();
        let mut sample = Vec::new();
        file.take(SAMPLE).read_to_end(&mut sample)?;
        Ok(Prepared { upload, size, sha256: sha256_of(&upload.file)?, sample, large: false })
    };
    read().map_err(|error| unreadable(&upload.file, &error))
}

/// Asks which files are large, and go by another way.
fn ask_how(client: &Client, name: &HubName, files: &mut [Prepared]) -> Result<(), HubError> {
    let whose = name.to_string();
    let asked: Vec<Value> = files
        .iter()
        .map(|file| json!({ "path": file.upload.path, "size": file.size, "sample": STANDARD.encode(&file.sample) }))
        .collect();
    let address = client.at(&format!("api/models/{}/preupload/{}", name.repo, quoted(name.revision(), "")));
    let told = send(client, &address, &json!({ "files": asked }), &[], &whose)?;
    let told = told["files"].as_array().map(Vec::as_slice).unwrap_or_default();
    for file in files {
        let how = told.iter().find(|told| told["path"] == json!(file.upload.path));
        file.large = match how.and_then(|how| how["uploadMode"].as_str()) {
            Some("lfs") => file.size > 0, // storage takes no empty objects
            Some("regular") => false,
            _ => return Err(odd(client, "does not say how to upload files to", &whose)),
        };
    }
    Ok(())
}

/// Brings large files to where the Hub keeps them, unless it has them.
fn upload_large(client: &Client, name: &HubName, files: &[&Prepared]) -> Result<(), HubError> {
    if files.is_empty() {
        return Ok(());
    }
    let whose = name.to_string();
    let objects: Vec<Value> =
        files.iter().map(|file| json!({ "oid": file.sha256, "size": file.size })).collect();
    let wish = json!({
        "operation": "upload", "transfers": ["basic", "multipart"], "objects": objects, "hash_algo": "sha256",
        "ref": { "name": name.revision() },
    })
    .to_string();
    let address = client.at(&format!("{}.git/info/lfs/objects/batch", name.repo));
    let told = client.post(&address, Sent::Text(wish.as_bytes(), LFS_JSON), Some(LFS_JSON), &[], &whose)?;
    let total = files.iter().map(|file| file.size).sum();
    let bar = progress::byte_bar(total, &name.repo);
    for object in told["objects"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let Some(file) = files.iter().find(|file| object["oid"] == json!(file.sha256)) else { continue };
        if let Some(error) = object["error"]["message"].as_str() {
            let text = format!("{} refuses {:?}: {error}", client.settings.endpoint, file.upload.file);
            return Err(HubError::Failed(text));
        }
        let actions = &object["actions"];
        if let Some(address) = actions["upload"]["href"].as_str() {
            bring(client, &whose, file, address, &actions["upload"]["header"])?;
        }
        if let Some(address) = actions["verify"]["href"].as_str() {
            send(client, address, &json!({ "oid": file.sha256, "size": file.size }), &[], &whose)?;
        }
        bar.inc(file.size);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Puts a file to one address, or its parts to one each.
fn bring(
    client: &Client,
    whose: &str,
    file: &Prepared,
    address: &str,
    header: &Value,
) -> Result<(), HubError> {
    let path: &Path = &file.upload.file;
    let whole = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let Some(part) = whole(&header["chunk_size"]).filter(|part| *part > 0) else {
        client.put(address, Sent::Part(path, 0, file.size), whose)?;
        return Ok(());
    };
    let numbered = |(number, address): (&String, &Value)| {
        Some((number.parse::<u64>().ok()?, address.as_str()?.to_owned()))
    };
    let mut parts: Vec<(u64, String)> =
        header.as_object().into_iter().flatten().filter_map(numbered).collect();
    parts.sort();
    if parts.len() as u64 != file.size.div_ceil(part) {
        return Err(odd(client, "cuts a file into other parts than its size allows, of", whose));
    }
    let mut sent = Vec::new();
    for (index, (number, address)) in parts.iter().enumerate() {
        let from = index as u64 * part;
        let answer = client.put(address, Sent::Part(path, from, part.min(file.size - from)), whose)?;
        let etag = answer.headers().get("etag").and_then(|etag| etag.to_str().ok());
        let etag = etag.ok_or_else(|| odd(client, "confirms no part of a file of", whose))?;
        sent.push(json!({ "partNumber": number, "etag": etag }));
    }
    let text = json!({ "oid": file.sha256, "parts": sent }).to_string();
    client.post(address, Sent::Text(text.as_bytes(), LFS_JSON), Some(LFS_JSON), &[], whose)?;
    Ok(())
}

fn odd(client: &Client, does: &str, whose: &str) -> HubError {
    HubError::Failed(format!(
        "{} {does} {whose}, expected a server that speaks the Hub's protocol",
        client.settings.endpoint
    ))
}

fn unreadable(path: &Path, error: &std::io::Error) -> HubError {
    HubError::Input(format!("cannot read {path:?}: {error}"))
}
