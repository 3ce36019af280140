//! `push`: what the server gets, byte by byte.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::hub_bench::{Hub, check_refused, checked, files, sha256};
use crate::hub_server::{COMMIT, Fault};
use crate::support::{Bench, shipped};

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
    assert_eq!((verified, stored.count()), (3, 0), "weights and two videos, and no token for storage");

    // Without --base the path's last name stands there, and this is told. Large files may go in parts.
    hub.server.state().part = Some(700);
    hub.server.state().stored.clear();
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
