//! Policies of every kind, from every format, and what they may lack.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Bench, PRETRAIN, copy_folder, golden};

#[test]
fn a_torchscript_module_acts_and_takes_no_adapters() {
    let bench = Bench::new();
    copy_folder(&golden("policies/script"), &bench.path("script"));
    let evaluate = ["evaluate", "script", "--env", "Pendulum-v1", "--episodes", "2", "--json"];
    let by_folder: Value = serde_json::from_str(&bench.succeed(&evaluate)).unwrap();
    let evaluate = ["evaluate", "script/model.pt", "--env", "Pendulum-v1", "--episodes", "2", "--json"];
    let by_file: Value = serde_json::from_str(&bench.succeed(&evaluate)).unwrap();
    assert_eq!(by_folder["results"], by_file["results"]);
    assert!(by_file["results"][0]["mean_return"].as_f64().unwrap() < 0.0);
    bench.succeed(&[
        "collect",
        "--env",
        "Pendulum-v1",
        "--policy",
        "script",
        "--episodes",
        "1",
        "--out",
        "data",
    ]);
    let inputs = golden("policies/script/inputs.safetensors");
    let predict =
        ["predict", "script", "--inputs", inputs.to_str().unwrap(), "--out", "out.safetensors", "--json"];
    let said: serde_json::Value = serde_json::from_str(&bench.succeed(&predict)).unwrap();
    assert_eq!(said["predictions"], "out.safetensors");
    assert_eq!(said["shapes"]["action_preds"].as_array().unwrap().len(), 3, "{said}");

    let output = bench.run(&["eva", "script", "--data", "data", "--rank", "2", "--out", "adapter"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("TorchScript") && said.contains("take no adapters"), "{said}");
}

#[test]
fn statistics_come_from_a_flag_a_sidecar_or_a_known_release() {
    let bench = Bench::with_policy();
    let whole = fs::read_to_string(bench.path("policy/config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&whole).unwrap();
    let mut statistics = json!({});
    for key in ["state_mean", "state_std", "return_scale", "target_return", "context_length"] {
        statistics[key] = config.as_object_mut().unwrap().remove(key).unwrap();
    }
    bench.write("statistics.json", &statistics.to_string());
    let expected = bench.succeed(&["evaluate", "policy", "--env", "Pendulum-v1", "--episodes", "2"]);

    copy_folder(&bench.path("policy"), &bench.path("mute"));
    bench.write("mute/config.json", &config.to_string());
    let evaluate = ["evaluate", "mute", "--env", "Pendulum-v1", "--episodes", "2"];
    let output = bench.run(&evaluate);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("state_mean, state_std, return_scale"));

    let flagged = bench.succeed(&[&evaluate[..], &["--statistics", "statistics.json"]].concat());
    assert_eq!(flagged, expected);
    bench.write("mute/statistics.json", &statistics.to_string());
    assert_eq!(bench.succeed(&evaluate), expected);
    assert!(
        bench.succeed(&["inspect", "mute"]).contains("acts: with the statistics of mute/statistics.json")
    );
}

#[test]
fn a_policy_with_rewards_and_bins_is_pretrained_adapted_with_dora_and_merged() {
    let bench = Bench::with_policy();
    let pretrain = PRETRAIN.replace(
        "[data]",
        "tokens = [\"state\", \"return\", \"action\", \"reward\"]\nglobal_positions = true\nactivation = \"gelu\"\naction_head = { binned = { bins = 9 } }\n[data]",
    );
    bench.write("binned.toml", &pretrain);
    bench.succeed(&["train", "binned.toml", "--out", "binned"]);
    let adapt = fs::read_to_string(bench.path("adapt.toml")).unwrap();
    let adapt = adapt
        .replace("path = \"policy\"", "path = \"binned/best/policy\"")
        .replace("dropout = 0.1 }", "dropout = 0.1, dora = true, rslora = true }");
    bench.write("adapt-binned.toml", &adapt);
    bench.succeed(&["train", "adapt-binned.toml", "--out", "adapted"]);
    let (policy, adapter) = ("binned/best/policy", "adapted/best/adapter");
    let kept = bench.succeed(&["inspect", adapter, "--json"]);
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!((&kept["dora"], &kept["rslora"]), (&json!(true), &json!(true)));
    let adapted =
        bench.succeed(&["evaluate", policy, "--adapter", adapter, "--env", "Pendulum-v1", "--episodes", "2"]);
    bench.succeed(&["merge", policy, "--adapter", adapter, "--out", "merged"]);
    let merged = bench.succeed(&["evaluate", "merged", "--env", "Pendulum-v1", "--episodes", "2"]);
    assert_eq!(adapted, merged);
    let inspected = bench.succeed(&["inspect", "merged"]);
    assert!(inspected.contains("model_type: eva_rl_decision_transformer"), "{inspected}");
}

#[test]
fn a_policy_over_images_acts_where_such_images_are_shown_and_nowhere_else() {
    let bench = Bench::with_policy();
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parity/atari-dt-3/model.pth");
    fs::copy(weights, bench.path("seen.pth")).unwrap();
    bench.write("statistics.json", r#"{"target_return": 100.0}"#);
    let evaluate = |env: &str| {
        let limit = ["--env-kwarg", "max_episode_steps=40", "--episodes", "3", "--num-envs", "2", "--json"];
        bench.run(&[&["evaluate", "seen.pth", "--env", env], limit.as_slice()].concat())
    };
    let played = evaluate("envpool:Seaquest-v5");
    let said = String::from_utf8_lossy(&played.stderr).into_owned();
    assert!(played.status.success(), "{said}");
    let found: Value = serde_json::from_slice(&played.stdout).unwrap();
    assert_eq!(found["results"][0]["mean_length"], 40.0);

    let refused = |arguments: &[&str], wanted: &str| {
        let output = bench.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(wanted), "{arguments:?}: {said}");
    };
    let other = "the policy reads states of images [4, 84, 84], and `CartPole-v1` has 4 numbers";
    refused(&["evaluate", "seen.pth", "--env", "CartPole-v1"], other);
    let sampled = "sampled actions were asked for of a policy of continuous actions, which has no logits; expected greedy actions";
    refused(&["evaluate", "policy", "--env", "Pendulum-v1", "--actions", "sampled"], sampled);
    let numbers = "the policy reads states of 3 numbers, and `envpool:Seaquest-v5` has 28224 numbers";
    refused(&["evaluate", "policy", "--env", "envpool:Seaquest-v5"], numbers);
    let collect =
        ["collect", "--env", "CartPole-v1", "--policy", "seen.pth", "--episodes", "1", "--out", "new"];
    refused(&collect, other);
    let pretrained = "policy.pretrained.path=seen.pth";
    let vectors = "the policy reads states of images [4, 84, 84], and `Pendulum-v1` has 3 numbers";
    refused(&["train", "adapt.toml", "--set", pretrained, "--out", "run"], vectors);
    assert!(!bench.path("new").exists() && !bench.path("run").exists());
}
