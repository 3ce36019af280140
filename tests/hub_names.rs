//! Names of the Hub and of minari wherever a policy, an adapter or a dataset is taken.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::hub_bench::{Hub, check_refused, files};
use crate::hub_server::{COMMIT, Fault};
use crate::support::Bench;

/// The dataset of `bench` as `walk-v0` of a repository.
fn walk(bench: &Bench) -> Vec<(String, Vec<u8>)> {
    let files = files(&bench.path("data/data")).into_iter();
    files.map(|(name, bytes)| (format!("walk-v0/data/{name}"), bytes)).collect()
}

#[test]
fn every_command_takes_names() {
    let hub = Hub::new();
    let bench = Bench::with_policy();
    hub.server.add("models/me/policy", files(&bench.path("policy")));
    hub.server.add("datasets/farama-minari/toy", walk(&bench));
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
    hub.succeed(&["bench", "forward", "--policy", policy, "--seconds", "0.01"]);
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
    hub.server.add("datasets/me/toy", walk(&bench));
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
    hub.succeed(&["inspect", "hf://anyone/toy/door/heavy-v0"]);
    hub.succeed(&["bench", "windows", "--data", "hf://anyone/toy/door/heavy-v0", "--seconds", "0.01"]);
    assert!(hub.server.requests().is_empty());
}
