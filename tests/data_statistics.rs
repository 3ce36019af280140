//! What a policy takes from a dataset: statistics, targets, and whether it does there what the data did.

use std::fs;
use std::path::Path;

use eva_rl_agents::tensor::file::{self, TensorFile};
use serde_json::{Value, json};
use tch::{Device, Tensor};

use crate::support::{Bench, copy_folder, shipped};

/// The keys that most published policies lack.
const KEYS: [&str; 8] = [
    "state_mean",
    "state_std",
    "return_scale",
    "target_return",
    "max_return_to_go",
    "context_length",
    "action_low",
    "action_high",
];

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The policy of [`Bench::with_policy`] without the keys, as `bare`.
fn with_bare_policy() -> Bench {
    let bench = Bench::with_policy();
    copy_folder(&bench.path("policy"), &bench.path("bare"));
    let mut config = read(&bench.path("bare/config.json"));
    for key in KEYS {
        config.as_object_mut().unwrap().remove(key);
    }
    bench.write("bare/config.json", &config.to_string());
    bench
}

/// Returns of the dataset `data`: the least and the greatest.
fn returns(bench: &Bench) -> [f64; 2] {
    let found: Value = serde_json::from_str(&bench.succeed(&["inspect", "data", "--json"])).unwrap();
    ["least_return", "greatest_return"].map(|key| found[key].as_f64().unwrap())
}

#[track_caller]
fn refused(bench: &Bench, arguments: &[&str], wanted: &str) {
    let output = bench.run(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(wanted), "{stderr}");
}

#[test]
fn a_policy_without_statistics_takes_those_of_the_data_and_keeps_them() {
    let bench = with_bare_policy();
    let play = ["evaluate", "bare", "--env", "Pendulum-v1", "--episodes", "2"];
    refused(&bench, &play, "it has no context_length, state_mean, state_std, return_scale, target_return");
    let from_data = ["--statistics", "data", "--data", "data"];
    refused(&bench, &[&play[..], &from_data[..2]].concat(), "--statistics is data, expected --data");
    let played = bench.succeed(&[&play[..], &from_data[..]].concat());

    bench.succeed(&[&["merge", "bare", "--out", "whole"], &from_data[..]].concat());
    let (own, taken) = (read(&bench.path("policy/config.json")), read(&bench.path("whole/config.json")));
    for key in ["state_mean", "state_std", "action_low", "action_high", "max_return_to_go"] {
        assert_eq!(own[key], taken[key], "{key}"); // the policy was trained on the same data
    }
    let [least, best] = returns(&bench);
    assert_eq!(taken["target_return"].as_f64().unwrap() as f32, best as f32);
    assert_eq!(taken["return_scale"].as_f64().unwrap() as f32, -least as f32);
    assert_eq!(taken["context_length"], 20);
    assert_eq!(bench.succeed(&["evaluate", "whole", "--env", "Pendulum-v1", "--episodes", "2"]), played);
}

#[test]
fn a_run_with_statistics_of_the_data_keeps_them_beside_its_adapter() {
    let bench = with_bare_policy();
    let set = ["--set", "policy.pretrained={ path = 'bare', statistics = 'data' }"];
    let target = ["--set", "evaluation.target_returns=['best*0.5']"];
    bench.succeed(&[&["train", "adapt.toml", "--out", "run"], &set[..], &target[..]].concat());
    let kept = read(&bench.path("run/best/adapter/statistics.json"));
    let [_, best] = returns(&bench);
    assert_eq!(kept["target_return"].as_f64().unwrap() as f32, best as f32);

    // The half of it is what the run asked for.
    let evaluations = read(&bench.path("run/evaluation.json"));
    let asked = evaluations[0]["targets"][0]["target_return"].as_f64().unwrap();
    assert!((asked - 0.5 * best).abs() < 1e-3, "{asked} of {best}");

    // No command needs the data again, wherever the adapter lies.
    let play = ["--env", "Pendulum-v1", "--episodes", "2", "--json"];
    let of_run: Value =
        serde_json::from_str(&bench.succeed(&[&["evaluate", "run"], &play[..]].concat())).unwrap();
    copy_folder(&bench.path("run/best/adapter"), &bench.path("adapter"));
    let of_adapter: Value = serde_json::from_str(
        &bench.succeed(&[&["evaluate", "bare", "--adapter", "adapter"], &play[..]].concat()),
    )
    .unwrap();
    assert_eq!(of_run["results"], of_adapter["results"]);
    bench.succeed(&["merge", "run", "--out", "merged"]);
    assert_eq!(read(&bench.path("merged/config.json"))["return_scale"], kept["return_scale"]);
}

#[test]
fn statistics_of_another_width_are_refused() {
    let bench = with_bare_policy();
    let collect =
        ["collect", "--env", "CartPole-v1", "--policy", "random", "--episodes", "2", "--out", "other"];
    bench.succeed(&collect);
    refused(
        &bench,
        &["merge", "bare", "--statistics", "data", "--data", "other", "--out", "whole"],
        "the policy reads states of 3 numbers, and other has 4 numbers",
    );
    assert!(!bench.path("whole").exists());
}

#[test]
fn a_target_may_be_a_multiple_of_the_data_s_best() {
    let bench = Bench::with_policy();
    let play = ["evaluate", "policy", "--env", "Pendulum-v1", "--episodes", "1", "--json"];
    let target = ["--target-return", "best*2", "--data", "data"];
    let found: Value = serde_json::from_str(&bench.succeed(&[&play[..], &target[..]].concat())).unwrap();
    let [_, best] = returns(&bench);
    let asked = found["results"][0]["target_return"].as_f64().unwrap();
    assert!((asked - 2.0 * best).abs() < 1e-3 * best.abs(), "{asked} of {best}");
    refused(&bench, &[&play[..], &target[..2]].concat(), "--target-return is best*2, expected --data");
    refused(
        &bench,
        &[&play[..], &["--target-return", "worst"]].concat(),
        "found \"worst\", expected a finite",
    );
    let collect =
        ["collect", "--env", "Pendulum-v1", "--policy", "policy", "--episodes", "1", "--out", "new"];
    assert!(
        bench
            .succeed(&[&collect[..], &target[..]].concat())
            .contains(&format!("target return {}", asked as f32))
    );
}

#[test]
fn a_sweep_of_targets_is_a_table_and_a_figure() {
    let bench = Bench::with_policy();
    let play = ["evaluate", "policy", "--env", "Pendulum-v1", "--episodes", "2"];
    let table =
        bench.succeed(&[&play[..], &["--target-sweep=-1200:-200:3", "--figure", "targets.svg"]].concat());
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| -")).collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert!(rows[1].starts_with("| -700.0 |"), "{table}");
    let svg = fs::read_to_string(bench.path("targets.svg")).unwrap();
    assert_eq!(svg.matches("<circle").count(), 3);

    bench.succeed(&[&play[..], &["--target-sweep=-1200:-200:2", "--figure", "targets.PNG"]].concat());
    assert!(fs::read(bench.path("targets.PNG")).unwrap().starts_with(b"\x89PNG"));

    // Without a range it goes by the data: four steps from the least return to the greatest, and two more.
    let found = bench.succeed(&[&play[..], &["--target-sweep", "--data", "data", "--json"]].concat());
    let found: Value = serde_json::from_str(&found).unwrap();
    let asked: Vec<f64> = found["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["target_return"].as_f64().unwrap())
        .collect();
    let [least, best] = returns(&bench);
    assert_eq!(asked.len(), 7);
    assert!(
        (asked[0] - least).abs() < 1e-2 && (asked[4] - best).abs() < 1e-2,
        "{asked:?} of {least} to {best}"
    );

    for (wrong, wanted) in [("--target-sweep=5:1", "LOW below HIGH"), ("--target-sweep=0:1:1", "N from 2")] {
        refused(&bench, &[&play[..], &[wrong]].concat(), wanted);
    }
    refused(&bench, &[&play[..], &["--target-sweep", "--figure", "a.jpg"]].concat(), "ends in .svg or .png");
    refused(&bench, &[&play[..], &["--figure", "a.png"]].concat(), "--target-sweep");
    refused(&bench, &["inspect", "data", "--data", "data"], "\"data\" is a dataset, expected a policy");
}

/// A policy that plays well, as `policy`, and the same with its actions' signs turned, as `turned`.
fn with_turned_policy() -> Bench {
    let bench = Bench::with_policy();
    fs::remove_dir_all(bench.path("policy")).unwrap();
    for name in ["policy", "turned"] {
        copy_folder(&shipped("pendulum"), &bench.path(name));
    }
    let path = bench.path("turned/model.safetensors");
    let weights = TensorFile::open(&path).unwrap();
    let turned: Vec<(String, Tensor)> = weights
        .names()
        .map(|name| {
            let weight = weights.read_weight(name, Device::Cpu).unwrap();
            let sign = if name.contains("predict_action") { -1.0 } else { 1.0 };
            (name.to_owned(), weight * sign)
        })
        .collect();
    drop(weights);
    file::write(&turned, &path).unwrap();
    bench
}

#[test]
fn a_policy_whose_actions_have_their_sign_turned_is_found_out() {
    let bench = with_turned_policy();
    let inspect = |policy: &str| {
        let output = bench.run(&["inspect", policy, "--data", "data", "--json"]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        (serde_json::from_slice::<Value>(&output.stdout).unwrap(), stderr)
    };
    let ((good, said), (bad, warned)) = (inspect("policy"), inspect("turned"));
    let correlation = |found: &Value| found["reproduction"]["actions"][0]["correlation"].as_f64().unwrap();
    assert!(correlation(&good) > 0.3, "{good}");
    assert!((correlation(&good) + correlation(&bad)).abs() < 1e-3, "{good} {bad}");
    let wanted = "action dimension 0 of the policy is the data's with the sign turned";
    assert!(warned.contains(wanted) && !said.contains("sign turned"), "{warned} {said}");
    assert!(bad["warnings"][0].as_str().unwrap().contains(wanted));

    // Training says so too, before it begins.
    let output =
        bench.run(&["train", "adapt.toml", "--set", "policy.pretrained.path='turned'", "--out", "run"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains(&format!("warning: {wanted}")));
}

#[test]
fn observations_of_other_units_are_found_out() {
    let bench = Bench::with_policy();
    bench.write(
        "units.json",
        &json!({ "state_mean": [0.0, 0.0, 0.0], "state_std": [0.1, 1.0, 1.0] }).to_string(),
    );
    let output = bench.run(&["inspect", "policy", "--data", "data", "--statistics", "units.json"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("warning: observation dimension 0 lies more than 5"), "{stderr}");
    assert!(!stderr.contains("observation dimension 1 "), "{stderr}");
}
