//! One file of the Hub: what is known of it before, its bytes, taken up where they stopped, and its hash.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;

use indicatif::ProgressBar;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::http::HeaderMap;

use super::client::Client;
use super::error::HubError;
use crate::support::errors::tell;

/// Answers in a row that may end before they have brought anything.
const EMPTY_ANSWERS: u32 = 3;

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// What the Hub says of a file before it is downloaded.
#[derive(Clone, Debug)]
pub struct RemoteFile {
    /// Where it is asked for.
    pub address: String,
    /// What it is called in messages.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// The SHA-256 of a large file's bytes, or the SHA-1 of git's blob; it is the blob's name in the cache.
    pub hash: String,
}

impl RemoteFile {
    /// Asks for a file's size and hash.
    pub fn ask(client: &Client, address: String, name: String) -> Result<Self, HubError> {
        let answer = client.head(&address, &name)?;
        let headers = answer.headers();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let lacks = |what: &str| {
            HubError::Failed(format!(
                "{} gives no {what} of {name}, expected a server that speaks the Hub's protocol",
                client.settings.endpoint
            ))
        };
        let hash = text("x-linked-etag").or(text("etag")).ok_or_else(|| lacks("hash"))?;
        let hash = hash.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
        if !matches!(hash.len(), 40 | 64) || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(lacks("hash"));
        }
        // Of a redirection the length is its own.
        let length = text("content-length").filter(|_| !answer.status().is_redirection());
        let size = text("x-linked-size")
            .or(length)
            .and_then(|size| size.parse().ok())
            .ok_or_else(|| lacks("size"))?;
        Ok(Self { address, name, size, hash })
    }

    /// Downloads it to `destination` by way of `incomplete`, whose bytes of an earlier time count.
    pub fn fetch(
        &self,
        client: &Client,
        destination: &Path,
        incomplete: &Path,
        bar: &ProgressBar,
    ) -> Result<(), HubError> {
        let mut counted = 0; // bytes that the bar knows of
        let mut empty_answers = 0;
        loop {
            let mut have = incomplete.metadata().map_or(0, |file| file.len());
            if have > self.size {
                fs::remove_file(incomplete).map_err(|error| cannot_write(incomplete, &error))?;
                have = 0;
            }
            bar.inc(have.saturating_sub(counted));
            counted = counted.max(have);
            if have == self.size {
                break;
            }
            let brought = self.fetch_rest(client, incomplete, have, &mut counted, bar)?;
            empty_answers = if brought > 0 { 0 } else { empty_answers + 1 };
            if empty_answers == EMPTY_ANSWERS {
                let have = incomplete.metadata().map_or(0, |file| file.len());
                return Err(HubError::Unreachable {
                    server: client.settings.endpoint.clone(),
                    reason: format!(
                        "{} stops at {have} of {} bytes; the same command goes on from there",
                        self.name, self.size
                    ),
                });
            }
        }
        if self.size == 0 && !incomplete.exists() {
            File::create(incomplete).map_err(|error| cannot_write(incomplete, &error))?;
        }
        let found = hash_of(incomplete, self.size, self.hash.len())
            .map_err(|error| cannot_write(incomplete, &error))?;
        if found != self.hash {
            fs::remove_file(incomplete).map_err(|error| cannot_write(incomplete, &error))?;
            return Err(HubError::Failed(format!(
                "{} was downloaded with the hash {found}, expected {}; it is removed, and the same command tries again",
                self.name, self.hash
            )));
        }
        let publish = || {
            File::open(incomplete)?.sync_all()?;
            fs::rename(incomplete, destination)
        };
        publish().map_err(|error| cannot_write(destination, &error))
    }

    /// Asks for the bytes after the first `have`, and appends what comes; gives how many came.
    fn fetch_rest(
        &self,
        client: &Client,
        incomplete: &Path,
        have: u64,
        counted: &mut u64,
        bar: &ProgressBar,
    ) -> Result<u64, HubError> {
        let answer = client.get_from(&self.address, have, &self.name)?;
        let (start, total) = match answer.status().as_u16() {
            206 => content_range(answer.headers()).unwrap_or((u64::MAX, None)),
            416 => (u64::MAX, None),
            _ => (0, answer.body().content_length()),
        };
        if let Some(total) = total.filter(|total| *total != self.size) {
            let _is_of_no_use = fs::remove_file(incomplete);
            return Err(HubError::Failed(format!("{} has {total} bytes, expected {}", self.name, self.size)));
        }
        let mut options = OpenOptions::new();
        let options = options.create(true).write(true);
        // A server that knows no ranges sends the file from its start.
        let options = if start == have { options.append(true) } else { options.truncate(true) };
        let mut file = options.open(incomplete).map_err(|error| cannot_write(incomplete, &error))?;
        if start != have && start != 0 {
            return Ok(0);
        }
        let mut reader = answer.into_body().into_reader().take(self.size - start + 1);
        let (mut at, mut brought) = (start, 0);
        let mut chunk = vec![0; CHUNK];
        // Where the connection ends, the next request goes on.
        while let Ok(count @ 1..) = reader.read(&mut chunk) {
            file.write_all(&chunk[..count]).map_err(|error| cannot_write(incomplete, &error))?;
            (at, brought) = (at + count as u64, brought + count as u64);
            bar.inc(at.saturating_sub(*counted));
            *counted = (*counted).max(at);
        }
        Ok(brought)
    }
}

/// The first byte of an answer in parts, and the size of the whole.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = headers.get("content-range")?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, total) = text.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

/// The hash of a file of `size` bytes: SHA-256 where it has 64 digits, that of git's blob where not.
fn hash_of(path: &Path, size: u64, digits: usize) -> io::Result<String> {
    let mut file = File::open(path)?;
    Ok(if digits == 64 {
        let mut hasher = Sha256::new();
        io::copy(&mut file, &mut hasher)?;
        hex(&hasher.finalize())
    } else {
        let mut hasher = Sha1::new();
        hasher.update(format!("blob {size}\0"));
        io::copy(&mut file, &mut hasher)?;
        hex(&hasher.finalize())
    })
}

/// The SHA-256 of a file.
pub fn sha256_of(path: &Path) -> io::Result<String> {
    hash_of(path, 0, 64)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a text takes what is written to it");
        text
    })
}

/// Holds a file's lock, which Python's programs respect too, until it is dropped.
pub fn lock(path: &Path, what: &str) -> Result<File, HubError> {
    let cannot = |error: io::Error| cannot_write(path, &error);
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(cannot)?;
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(path).map_err(cannot)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            tell(&format!("waiting for another program that downloads {what}"));
            file.lock().map_err(cannot)?;
        }
        Ok(()) | Err(TryLockError::Error(_)) => {} // where locks are unknown, nobody else has one
    }
    Ok(file)
}

/// What a disk that is full, or not ours, comes to.
pub fn cannot_write(path: &Path, error: &io::Error) -> HubError {
    HubError::Failed(format!("cannot write {path:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_sha256_and_of_git() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "hello\n").unwrap();
        assert_eq!(hash_of(&path, 6, 40).unwrap(), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(
            sha256_of(&path).unwrap(),
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
        );
    }
}
