//! Names of the Hugging Face Hub and of minari, downloads with faults, and uploads, against a server of our own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::hub_server::{COMMIT, Fault, HubServer, git_hash, hex};
use crate::support::{Bench, golden, shipped};

/// A bench and a server, and the program with variables that lead to both.
struct Hub {
    bench: Bench,
    server: HubServer,
}

/// The repository that most tests read.
const PLAIN: &str = "models/me/plain";

impl Hub {
    /// The server has a policy with code beside it.
    fn new() -> Self {
        let hub = Self { bench: Bench::new(), server: HubServer::start() };
        hub.server.add(PLAIN, files(&golden("policies/plain")));
        hub.server.add(
            PLAIN,
            [("modeling.py".to_owned(), b"raise".to_vec()), ("model.pt".to_owned(), b"code".to_vec())],
        );
        hub
    }

    fn command(&self, arguments: &[&str]) -> Command {
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

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    #[track_caller]
    fn succeed(&self, arguments: &[&str]) -> (String, String) {
        checked(self.run(arguments))
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str], code: i32, words: &[&str]) {
        check_refused(&self.run(arguments), code, words);
    }

    /// The folder of a model in the cache.
    fn cached(&self, name: &str) -> PathBuf {
        self.bench.path("hf/hub").join(format!("models--{}", name.replace('/', "--")))
    }
}

#[track_caller]
fn checked(output: Output) -> (String, String) {
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{err}");
    (out, err)
}

#[track_caller]
fn check_refused(output: &Output, code: i32, words: &[&str]) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{err}");
    let last = err.lines().last().unwrap_or_default();
    for word in words {
        assert!(last.contains(word), "{word}: {err}");
    }
}

/// The files of a folder by their names.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read =
        |path: PathBuf| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap());
    entries.filter(|path| path.is_file()).map(read).collect()
}

fn weights() -> Vec<u8> {
    fs::read(golden("policies/plain/model.safetensors")).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[test]
fn a_policy_is_downloaded_into_the_cache_as_python_lays_it_out() {
    let hub = Hub::new();
    let (out, err) = hub.succeed(&["inspect", "hf:me/plain"]);
    assert!(out.starts_with("kind: policy"), "{out}");
    assert!(
        err.contains(&format!("hf:me/plain is at commit {COMMIT}")) && err.contains("downloaded"),
        "{err}"
    );
    let root = hub.cached("me/plain");
    assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
    let snapshot = root.join("snapshots").join(COMMIT);
    let config = fs::read(golden("policies/plain/config.json")).unwrap();
    for (name, hash) in [("config.json", git_hash(&config)), ("model.safetensors", sha256(&weights()))] {
        assert_eq!(fs::read_link(snapshot.join(name)).unwrap(), Path::new("../../blobs").join(&hash));
        assert!(root.join("blobs").join(&hash).is_file());
    }
    let asked: Vec<String> = hub.server.requests().into_iter().map(|request| request.path).collect();
    assert!(
        !asked
            .iter()
            .any(|path| path.contains(".py") || path.contains("model.pt") || path.contains("inputs")),
        "{asked:?}"
    );
    // Again, only what the revision is now is asked for.
    let (_, err) = hub.succeed(&["inspect", "hf:me/plain"]);
    assert!(err.contains("from the cache"), "{err}");
    assert_eq!(hub.server.requests().len(), 1);
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let hub = Hub::new();
    hub.server.state().repos.get_mut(PLAIN).unwrap().private = true;
    hub.refused(
        &["inspect", "hf:me/plain"],
        2,
        &["has no hf:me/plain, or it is private", "no token is at hand"],
    );
    let output = hub.command(&["inspect", "hf:me/plain"]).env("HF_TOKEN", "hf_wrong").output().unwrap();
    check_refused(&output, 2, &["the token at hand does not open it"]);
    hub.server.requests();
    fs::create_dir_all(hub.bench.path("hf")).unwrap();
    hub.bench.write("hf/token", "hf_right\n");
    hub.succeed(&["inspect", "hf:me/plain"]);
    let requests = hub.server.requests();
    let (storage, own): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.at_storage);
    assert!(
        !storage.is_empty() && storage.iter().all(|request| !request.headers.contains_key("authorization"))
    );
    assert!(own.iter().all(|request| request.headers["authorization"] == "Bearer hf_right"));
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_stopped() {
    let hub = Hub::new();
    hub.server.fail("/blob/", Fault::Cut(1000), 1);
    hub.server.fail("/blob/", Fault::Cut(500), 1);
    hub.succeed(&["inspect", "hf:me/plain"]);
    let ranges: Vec<Option<String>> = hub
        .server
        .requests()
        .into_iter()
        .filter(|request| request.at_storage)
        .map(|request| request.headers.get("range").cloned())
        .collect();
    assert_eq!(ranges, [None, Some("bytes=1000-".to_owned()), Some("bytes=1500-".to_owned())]);
}

#[test]
fn what_an_earlier_command_has_brought_counts_and_a_server_may_know_no_ranges() {
    for (fault, asked) in [(None, 1), (Some(Fault::NoRanges), 1)] {
        let hub = Hub::new();
        let incomplete =
            hub.cached("me/plain").join("blobs").join(format!("{}.incomplete", sha256(&weights())));
        fs::create_dir_all(incomplete.parent().unwrap()).unwrap();
        fs::write(&incomplete, &weights()[..2000]).unwrap();
        fault.into_iter().for_each(|fault| hub.server.fail("/blob/", fault, 1));
        hub.succeed(&["inspect", "hf:me/plain"]);
        let requests = hub.server.requests();
        let at_storage: Vec<_> = requests.iter().filter(|request| request.at_storage).collect();
        assert_eq!(at_storage.len(), asked);
        assert_eq!(at_storage[0].headers["range"], "bytes=2000-");
        assert!(!incomplete.exists());
    }
}

#[test]
fn a_server_that_falls_silent_is_left() {
    let hub = Hub::new();
    hub.server.fail("/blob/", Fault::Stall(100), 1);
    hub.succeed(&["inspect", "hf:me/plain"]);
}

#[test]
fn a_server_that_brings_nothing_is_given_up_and_what_came_is_kept() {
    let hub = Hub::new();
    hub.server.fail("/blob/", Fault::Cut(700), 1);
    hub.server.fail("/blob/", Fault::Cut(0), 9);
    hub.refused(&["inspect", "hf:me/plain"], 1, &["stops at 700 of", "the same command goes on from there"]);
    let incomplete = hub.cached("me/plain").join("blobs").join(format!("{}.incomplete", sha256(&weights())));
    assert_eq!(fs::read(incomplete).unwrap(), &weights()[..700]);
    assert!(!hub.cached("me/plain").join("refs/main").exists(), "no revision is noted before it is whole");
}

#[test]
fn other_bytes_than_the_hub_promised_are_refused_and_removed() {
    for (path, name) in [("/blob/", "model.safetensors"), ("/config.json", "config.json")] {
        let hub = Hub::new();
        hub.server.fail(path, Fault::OtherByte, 1);
        hub.refused(
            &["inspect", "hf:me/plain"],
            1,
            &[name, "was downloaded with the hash", "expected", "it is removed"],
        );
        let left = fs::read_dir(hub.cached("me/plain").join("blobs")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert!(!left.iter().any(|name| name.ends_with(".incomplete")), "{left:?}");
        hub.succeed(&["inspect", "hf:me/plain"]);
    }
}

#[test]
fn another_size_than_the_hub_promised_is_refused() {
    let hub = Hub::new();
    hub.server.fail("/blob/", Fault::Longer, 1);
    let size = weights().len();
    hub.refused(&["inspect", "hf:me/plain"], 1, &[&format!("has {} bytes, expected {size}", size + 1)]);
}

#[test]
fn a_server_that_is_busy_is_asked_again_and_one_that_stays_so_is_told() {
    let hub = Hub::new();
    for path in ["/api/", "/resolve/", "/blob/"] {
        hub.server.fail(path, Fault::Status(503), 2);
        hub.server.fail(path, Fault::Status(429), 1);
    }
    hub.succeed(&["inspect", "hf:me/plain"]);
    let hub = Hub::new();
    hub.server.fail("/api/", Fault::Status(503), 99);
    hub.refused(&["inspect", "hf:me/plain"], 1, &["cannot reach", "503", "hf:me/plain is not in the cache"]);
}

#[test]
fn what_is_not_there_is_told_by_name() {
    let hub = Hub::new();
    hub.refused(&["inspect", "hf:me/nothing"], 2, &["has no hf:me/nothing"]);
    hub.refused(
        &["inspect", "hf:me/plain@v9"],
        2,
        &["hf:me/plain@v9 has no such revision, expected a branch"],
    );
    hub.refused(&["inspect", "hf:me/plain/sub"], 2, &["hf:me/plain/sub has no weights"]);
    hub.refused(
        &["evaluate", "hf:me", "--env", "Pendulum-v1"],
        2,
        &["\"hf:me\" names no repository, expected hf:OWNER/NAME"],
    );
    hub.server.state().repos.get_mut(PLAIN).unwrap().gated = true;
    hub.refused(&["inspect", "hf:me/plain"], 2, &["is gated"]);
}

#[test]
fn a_path_that_leads_out_of_the_repository_is_refused_before_anything_is_asked_for() {
    let hub = Hub::new();
    for bad in ["../../evil.json", "/etc/config.json", "a/../../config.json"] {
        hub.server.add("models/me/evil", files(&golden("policies/plain")));
        hub.server.add("models/me/evil", [(bad.to_owned(), b"{}".to_vec())]);
        hub.server.requests();
        hub.refused(&["inspect", "hf:me/evil"], 1, &["whose path is none within a repository"]);
        assert_eq!(hub.server.requests().len(), 1);
        hub.server.state().repos.remove("models/me/evil");
    }
}

#[test]
fn offline_only_the_cache_counts() {
    let hub = Hub::new();
    let offline = |arguments: &[&str]| hub.command(arguments).env("HF_HUB_OFFLINE", "1").output().unwrap();
    check_refused(
        &offline(&["inspect", "hf:me/plain"]),
        2,
        &["HF_HUB_OFFLINE is set", "hf:me/plain is not in the cache"],
    );
    hub.succeed(&["inspect", "hf:me/plain"]);
    hub.server.requests();
    checked(offline(&["inspect", "hf:me/plain"]));
    checked(offline(&["inspect", &format!("hf:me/plain@{COMMIT}")]));
    check_refused(&offline(&["inspect", "hf:me/plain@v1"]), 2, &["hf:me/plain@v1 is not in the cache"]);
    fs::remove_file(hub.cached("me/plain").join("snapshots").join(COMMIT).join("model.safetensors")).unwrap();
    check_refused(&offline(&["inspect", "hf:me/plain"]), 2, &["has hf:me/plain without its weights"]);
    assert!(hub.server.requests().is_empty());
    let output = offline(&["inspect", "minari:toy/door/human-v2"]);
    check_refused(&output, 2, &["HF_HUB_OFFLINE is set", "toy/door/human-v2"]);
}

#[test]
fn where_nobody_answers_the_cache_serves_and_says_so() {
    let hub = Hub::new();
    hub.succeed(&["inspect", "hf:me/plain"]);
    let closed = |arguments: &[&str]| {
        hub.command(arguments).env("HF_ENDPOINT", "http://127.0.0.1:9").output().unwrap()
    };
    let (_, err) = checked(closed(&["inspect", "hf:me/plain"]));
    assert!(err.contains("cannot reach http://127.0.0.1:9") && err.contains("from the cache"), "{err}");
    check_refused(
        &closed(&["inspect", "hf:me/other"]),
        1,
        &["cannot reach", "hf:me/other is not in the cache"],
    );
}

/// As huggingface_hub leaves it: links into `blobs`, a commit in `refs`.
#[test]
fn what_python_has_downloaded_is_found() {
    let hub = Hub::new();
    let root = hub.bench.path("cache/models--you--theirs");
    let snapshot = root.join("snapshots").join(COMMIT);
    for folder in [root.join("blobs"), root.join("refs"), snapshot.clone()] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(root.join("refs/main"), COMMIT).unwrap();
    for (name, bytes) in files(&golden("policies/plain")) {
        fs::write(root.join("blobs").join(sha256(&bytes)), &bytes).unwrap();
        symlink(format!("../../blobs/{}", sha256(&bytes)), snapshot.join(name)).unwrap();
    }
    // Python downloads code too; a TorchScript module in the cache is not run.
    fs::copy(golden("policies/script/model.pt"), snapshot.join("model.pt")).unwrap();
    let mut command = hub.command(&["inspect", "hf:you/theirs", "--json"]);
    let output =
        command.env("HF_HUB_CACHE", hub.bench.path("cache")).env("HF_HUB_OFFLINE", "yes").output().unwrap();
    let found: Value = serde_json::from_str(&checked(output).0).unwrap();
    assert_eq!(found["format"], "decision transformer");
}

#[test]
fn a_torch_script_module_of_the_hub_is_code() {
    let hub = Hub::new();
    hub.server.add("models/me/script", files(&golden("policies/script")));
    hub.refused(&["inspect", "hf:me/script"], 2, &["no weights"]);
    hub.refused(
        &["inspect", "hf:me/script/model.pt"],
        2,
        &["is a TorchScript module, which is code, expected weights"],
    );
}

#[test]
fn a_folder_of_a_repository_may_be_named() {
    let hub = Hub::new();
    let inside =
        files(&golden("policies/shards")).into_iter().map(|(name, bytes)| (format!("a/b/{name}"), bytes));
    hub.server.add("models/me/many", inside);
    hub.refused(&["inspect", "hf:me/many"], 2, &["its folders have some: hf:me/many/a/b"]);
    hub.succeed(&["inspect", "hf:me/many@main/a/b"]);
    let link = hub.cached("me/many").join("snapshots").join(COMMIT).join("a/b/config.json");
    assert!(fs::read_link(link).unwrap().starts_with("../../../../blobs"));
}

#[test]
fn every_command_takes_names() {
    let hub = Hub::new();
    let bench = Bench::with_policy();
    hub.server.add("models/me/policy", files(&bench.path("policy")));
    let data = files(&bench.path("data/data"))
        .into_iter()
        .map(|(name, bytes)| (format!("walk-v0/data/{name}"), bytes));
    hub.server.add("datasets/farama-minari/toy", data);
    hub.server.add("datasets/farama-minari/toy", [("namespace_metadata.json".to_owned(), b"{}".to_vec())]);
    let (policy, toy) = ("hf:me/policy", "minari:toy/walk-v0");
    hub.succeed(&["eva", policy, "--data", toy, "--rank", "2", "--out", "adapter"]);
    let config: Value =
        serde_json::from_str(&fs::read_to_string(hub.bench.path("adapter/adapter_config.json")).unwrap())
            .unwrap();
    assert_eq!(
        (&config["base_model_name_or_path"], &config["revision"]),
        (&json!("me/policy"), &json!(COMMIT))
    );
    hub.server.add("models/me/adapter", files(&hub.bench.path("adapter")));
    let merge = |arguments: &[&str], out: &str| {
        hub.succeed(&[&["merge"], arguments, &["--out", out]].concat());
        fs::read(hub.bench.path(out).join("model.safetensors")).unwrap()
    };
    let merged = merge(&[policy, "--adapter", "adapter"], "merged");
    assert_eq!(merge(&["hf:me/adapter"], "of_adapter"), merged, "its config names the base");
    assert_eq!(merge(&[policy, "--adapter", "hf:me/adapter"], "of_both"), merged);
    assert_eq!(merge(&["adapter"], "of_folder"), merged);
    hub.succeed(&["evaluate", policy, "--env", "Pendulum-v1", "--episodes", "1"]);
    hub.succeed(&[
        "collect",
        "--env",
        "Pendulum-v1",
        "--policy",
        policy,
        "--episodes",
        "1",
        "--out",
        "played",
    ]);
    hub.succeed(&["bench", "forward", "--policy", policy, "--env", "Pendulum-v1", "--seconds", "0.01"]);
    hub.succeed(&["bench", "windows", "--data", toy, "--seconds", "0.01"]);
    let (config, _) = hub.succeed(&["init", "--policy", policy, "--data", toy]);
    assert!(
        config.contains("path = \"hf:me/policy\"") && config.contains("\"minari:toy/walk-v0\""),
        "{config}"
    );
    let (out, _) = hub.succeed(&["inspect", toy]);
    assert!(out.starts_with("kind: dataset"), "{out}");
}

#[test]
fn a_run_keeps_the_name_and_the_commit() {
    let hub = Hub::new();
    let bench = Bench::with_policy();
    hub.server.add("models/me/policy", files(&bench.path("policy")));
    let data = files(&bench.path("data/data"))
        .into_iter()
        .map(|(name, bytes)| (format!("walk-v0/data/{name}"), bytes));
    hub.server.add("datasets/me/toy", data);
    let text = fs::read_to_string(bench.path("adapt.toml")).unwrap();
    let text = text
        .replace("path = \"policy\"", "path = \"hf:me/policy@main\"")
        .replace("[\"data\"]", "[\"hf://me/toy/walk-v0\"]");
    let text = text.split("[online.odt]").next().unwrap().to_owned() + &text[text.find("[env]").unwrap()..];
    hub.bench.write("adapt.toml", &text);
    let bad = hub.run(&["train", "adapt.toml", "--set", "policy.pretrained.path=hf:me", "--out", "bad"]);
    check_refused(&bad, 2, &[]);
    assert!(String::from_utf8_lossy(&bad.stderr).contains("must be a folder or hf:OWNER/NAME"));
    hub.succeed(&["train", "adapt.toml", "--out", "run"]);
    let config = fs::read_to_string(hub.bench.path("run/config.toml")).unwrap();
    assert!(
        config.contains("path = \"hf:me/policy@main\"") && config.contains(&format!("commit = \"{COMMIT}\"")),
        "{config}"
    );
    let card = fs::read_to_string(hub.bench.path("run/README.md")).unwrap();
    assert!(card.contains(&format!("from_pretrained(\"me/policy\", revision=\"{COMMIT}\")")), "{card}");
    // The resumed run asks for that commit, and so does what reads the run.
    hub.server.requests();
    let prolonged = ["train", "adapt.toml", "--resume", "run", "--set", "offline.updates=12"];
    hub.succeed(&prolonged);
    hub.succeed(&["evaluate", "run", "--env", "Pendulum-v1", "--episodes", "1"]);
    let asked: Vec<String> = hub.server.requests().into_iter().map(|request| request.path).collect();
    assert!(asked.len() == 2 && asked.iter().all(|path| path.ends_with(COMMIT)), "{asked:?}");
}

#[test]
fn a_dataset_is_put_where_minari_keeps_it_whole_or_not_at_all() {
    let hub = Hub::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/minari/pendulum/heavy-v0/data");
    let data = files(&golden).into_iter().map(|(name, bytes)| (format!("door/heavy-v0/data/{name}"), bytes));
    hub.server.add("datasets/farama-minari/toy", data);
    let names = ["namespace_metadata.json", "door/namespace_metadata.json", "door/heavy-v0/run.py"];
    hub.server.add("datasets/farama-minari/toy", names.map(|name| (name.to_owned(), b"{}".to_vec())));
    hub.refused(
        &["inspect", "minari:toy/door/heavy-v1"],
        2,
        &["has no toy/door/heavy-v1; near it are toy/door/heavy-v0"],
    );
    hub.server.fail("/blob/", Fault::Cut(3000), 1);
    hub.server.fail("/blob/", Fault::Cut(0), 3);
    hub.refused(&["inspect", "minari:toy/door/heavy-v0"], 1, &["stops at 3000 of"]);
    assert!(!hub.bench.path("minari/toy/door/heavy-v0").exists());
    hub.server.requests();
    hub.succeed(&["inspect", "minari:toy/door/heavy-v0"]);
    let requests = hub.server.requests();
    let at_storage: Vec<_> = requests.iter().filter(|request| request.at_storage).collect();
    assert_eq!((at_storage.len(), at_storage[0].headers["range"].as_str()), (1, "bytes=3000-"));
    assert!(!requests.iter().any(|request| request.path.ends_with(".py")));
    let root = hub.bench.path("minari/toy");
    for name in ["namespace_metadata.json", "door/namespace_metadata.json"] {
        assert!(root.join(name).is_file(), "{name}");
    }
    for (name, bytes) in files(&golden) {
        assert_eq!(fs::read(root.join("door/heavy-v0/data").join(name)).unwrap(), bytes);
    }
    let left: Vec<_> =
        fs::read_dir(root.join("door")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing is left beside it: {left:?}");
    // It is at hand now, by either name.
    hub.succeed(&["inspect", "minari:toy/door/heavy-v0"]);
    hub.succeed(&["bench", "windows", "--data", "hf://anyone/toy/door/heavy-v0", "--seconds", "0.01"]);
    assert!(hub.server.requests().is_empty());
}

/// A file of the last commit: its bytes, wherever they were put.
fn committed(hub: &Hub, path: &str) -> Vec<u8> {
    let state = hub.server.state();
    let lines = state.commits.last().unwrap();
    let line = lines.iter().find(|line| line["value"]["path"] == path).unwrap_or_else(|| panic!("no {path}"));
    let value = &line["value"];
    match line["key"].as_str().unwrap() {
        "file" => STANDARD.decode(value["content"].as_str().unwrap()).unwrap(),
        "lfsFile" => {
            let place = format!("/upload/{}", value["oid"].as_str().unwrap());
            let parts = state.stored.iter().filter(|(path, _)| path.starts_with(&place));
            let bytes: Vec<u8> = parts.flat_map(|(_, bytes)| bytes.clone()).collect();
            assert_eq!(
                (json!(bytes.len()), json!(sha256(&bytes))),
                (value["size"].clone(), value["oid"].clone())
            );
            bytes
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_run_s_best_adapter_is_pushed_with_its_card() {
    let hub = Hub::new();
    let bench = Bench::with_policy();
    bench.succeed(&["train", "adapt.toml", "--set", "online=", "--set", "offline.updates=2", "--out", "run"]);
    let run = bench.path("run");
    let arguments = [
        "push",
        run.to_str().unwrap(),
        "hf:me/tuned",
        "--base",
        "hf:me/policy@v1",
        "--message",
        "First",
        "--json",
    ];
    hub.refused(&arguments, 2, &["needs a token that may write"]);
    let push = |arguments: &[&str]| hub.command(arguments).env("HF_TOKEN", "hf_right").output().unwrap();
    hub.server.fail("/upload/", Fault::Status(503), 1);
    let (out, err) = checked(push(&arguments));
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&told["url"], &told["commit"]),
        (&json!(format!("{}/me/tuned", hub.server.address)), &json!(COMMIT))
    );
    assert!(!err.contains("nobody else has"), "{err}");
    assert_eq!(
        hub.server.state().commits[0][0],
        json!({ "key": "header", "value": { "summary": "First", "description": "" } })
    );
    let weights = fs::read(run.join("best/adapter/adapter_model.safetensors")).unwrap();
    assert_eq!(committed(&hub, "adapter_model.safetensors"), weights);
    let config: Value = serde_json::from_slice(&committed(&hub, "adapter_config.json")).unwrap();
    assert_eq!(
        (&config["base_model_name_or_path"], &config["revision"]),
        (&json!("me/policy"), &json!("v1"))
    );
    let card = String::from_utf8(committed(&hub, "README.md")).unwrap();
    assert!(
        card.starts_with("---\nlibrary_name: peft\n") && card.contains("\nbase_model: \"me/policy\"\n"),
        "{card}"
    );
    assert!(card.contains("PeftModel.from_pretrained(base, \"me/tuned\")"), "{card}");
    assert!(!card.contains(bench.path("").to_str().unwrap()), "no path of this machine: {card}");
    let requests = hub.server.requests();
    let verified = requests.iter().filter(|request| request.path == "/verify").count();
    let stored =
        requests.iter().filter(|request| request.at_storage && request.headers.contains_key("authorization"));
    assert_eq!((verified, stored.count()), (1, 0));

    // Without --base the path's last name stands there, and this is told. Large files may go in parts.
    hub.server.state().part = Some(700);
    let output = push(&["push", run.to_str().unwrap(), "hf:me/tuned", "--private"]);
    check_refused(&output, 2, &["is public, and --private is given; nothing is uploaded"]);
    let (out, err) =
        checked(push(&["push", run.to_str().unwrap(), "hf:me/second", "--revision", "dev", "--private"]));
    assert!(err.contains("a folder of this machine that nobody else has"), "{err}");
    assert!(out.trim_end().ends_with("/me/second/tree/dev"), "{out}");
    assert_eq!(committed(&hub, "adapter_model.safetensors"), weights);
    let config: Value = serde_json::from_slice(&committed(&hub, "adapter_config.json")).unwrap();
    assert_eq!(config["base_model_name_or_path"], "policy");
    assert!(hub.server.state().repos["models/me/second"].private);
    let paths: Vec<String> = hub.server.requests().into_iter().map(|request| request.path).collect();
    assert!(paths.iter().any(|path| path == "/api/models/me/second/branch/dev"), "{paths:?}");
    assert!(paths.iter().any(|path| path == "/api/models/me/second/commit/dev"), "{paths:?}");
}

#[test]
fn a_policy_is_pushed_and_read_back() {
    let hub = Hub::new();
    let pendulum = shipped("pendulum");
    let push = |arguments: &[&str]| hub.command(arguments).env("HF_TOKEN", "hf_right").output().unwrap();
    let (out, _) = checked(push(&["push", pendulum.to_str().unwrap(), "hf:me/pendulum", "--dry-run"]));
    assert!(out.contains("model.safetensors") && out.contains("library_name: transformers"), "{out}");
    assert!(hub.server.requests().is_empty());
    checked(push(&["push", pendulum.to_str().unwrap(), "hf:me/pendulum"]));
    for (name, bytes) in files(&pendulum) {
        assert_eq!(committed(&hub, &name), bytes, "{name}");
        hub.server.add("models/me/pendulum", [(name, bytes)]);
    }
    hub.succeed(&["inspect", "hf:me/pendulum"]);
    hub.refused(&["push", "nowhere", "hf:me/x"], 2, &["\"nowhere\" holds nothing to upload, expected a run"]);
    hub.refused(
        &["push", pendulum.to_str().unwrap(), "me/x"],
        2,
        &["is no name of the Hub, expected hf:OWNER/NAME"],
    );
    let output = push(&["push", pendulum.to_str().unwrap(), "hf:me/x", "--base", "hf:me/y"]);
    check_refused(&output, 2, &["is a whole policy, expected it to be left out"]);
}
