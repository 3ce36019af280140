//! The program with variables that lead to a server of our own, and to a cache of the test's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest, Sha256};

use crate::hub_server::{HubServer, hex};
use crate::support::{Bench, golden};

/// A bench and a server, and the program with variables that lead to both.
pub struct Hub {
    pub bench: Bench,
    pub server: HubServer,
}

/// The repository that most tests read.
pub const PLAIN: &str = "models/me/plain";

impl Hub {
    /// The server has a policy with code beside it.
    pub fn new() -> Self {
        let hub = Self { bench: Bench::new(), server: HubServer::start() };
        hub.server.add(PLAIN, files(&golden("policies/plain")));
        hub.server.add(
            PLAIN,
            [("modeling.py".to_owned(), b"raise".to_vec()), ("model.pt".to_owned(), b"code".to_vec())],
        );
        hub
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bench.command(arguments);
        for name in [
            "HF_TOKEN",
            "HF_HUB_CACHE",
            "HUGGING_FACE_HUB_TOKEN",
            "HF_TOKEN_PATH",
            "http_proxy",
            "HTTP_PROXY",
            "ALL_PROXY",
            "MINARI_REMOTE",
        ] {
            command.env_remove(name);
        }
        command
            .env("HF_ENDPOINT", &self.server.address)
            .env("HF_HOME", self.bench.path("hf"))
            .env("MINARI_DATASETS_PATH", self.bench.path("minari"))
            .env("HF_HUB_DOWNLOAD_TIMEOUT", "1");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    #[track_caller]
    pub fn succeed(&self, arguments: &[&str]) -> (String, String) {
        checked(self.run(arguments))
    }

    #[track_caller]
    pub fn refused(&self, arguments: &[&str], code: i32, words: &[&str]) {
        check_refused(&self.run(arguments), code, words);
    }

    /// The folder of a model in the cache.
    pub fn cached(&self, name: &str) -> PathBuf {
        self.bench.path("hf/hub").join(format!("models--{}", name.replace('/', "--")))
    }
}

#[track_caller]
pub fn checked(output: Output) -> (String, String) {
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{err}");
    (out, err)
}

#[track_caller]
pub fn check_refused(output: &Output, code: i32, words: &[&str]) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{err}");
    let last = err.lines().last().unwrap_or_default();
    for word in words {
        assert!(last.contains(word), "{word}: {err}");
    }
}

/// The files of a folder by their names.
pub fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read =
        |path: PathBuf| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap());
    entries.filter(|path| path.is_file()).map(read).collect()
}

pub fn weights() -> Vec<u8> {
    fs::read(golden("policies/plain/model.safetensors")).unwrap()
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
