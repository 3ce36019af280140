//! Downloads from the Hugging Face Hub: the cache, connections that are cut, wrong hashes, refusals, no network.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;

use crate::hub_bench::{Hub, PLAIN, check_refused, checked, files, sha256, weights};
use crate::hub_server::{COMMIT, Fault, git_hash};
use crate::support::golden;

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
