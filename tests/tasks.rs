//! One policy of several tasks: balanced datasets, a validation loss, each dataset's own environment.

use std::fs;

use serde_json::Value;

use crate::support::{Bench, PRETRAIN};

/// Two pendulums, of which one has four times the episodes.
fn bench() -> Bench {
    let bench = Bench::new();
    for (gravity, episodes) in [("2.0", "2"), ("6.0", "8")] {
        let (kwarg, out) = (format!("g={gravity}"), format!("g{gravity}"));
        let env = ["collect", "--env", "Pendulum-v1", "--env-kwarg", &kwarg, "--policy", "scripted"];
        bench.succeed(&[&env[..], &["--noise", "0,0.3", "--episodes", episodes, "--out", &out]].concat());
    }
    let text = PRETRAIN
        .replace(
            "datasets = [\"data\"]",
            "datasets = [\"g2.0\", \"g6.0\"]\nbalanced = true\nvalidation_episodes = 1",
        )
        .replace("target_returns = [-200.0, -400.0]", "on_datasets = true")
        .replace("id = \"Pendulum-v1\"", "id = \"Pendulum-v1\"\nkwargs = { g = 6.0 }");
    bench.write("tasks.toml", &text);
    bench
}

fn evaluations(bench: &Bench, run: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(bench.path(run).join("evaluation.json")).unwrap()).unwrap()
}

#[test]
fn a_run_plays_each_dataset_s_environment_and_tells_them_apart() {
    let bench = bench();
    bench.succeed(&["train", "tasks.toml", "--out", "run"]);
    let found = evaluations(&bench, "run");
    let last = &found.as_array().unwrap()[1];
    let tasks = last["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 2);
    for (task, (folder, gravity)) in tasks.iter().zip([("g2.0", 2.0), ("g6.0", 6.0)]) {
        assert_eq!(task["kwargs"]["g"], gravity);
        let dataset = bench.succeed(&["inspect", folder, "--json"]);
        let best = serde_json::from_str::<Value>(&dataset).unwrap()["greatest_return"].as_f64().unwrap();
        assert!((task["found"]["target_return"].as_f64().unwrap() - best).abs() < 1e-3);
    }
    let mean = |task: &Value| task["found"]["mean_return"].as_f64().unwrap();
    let all = &last["targets"][0];
    assert_eq!(all["episodes"], 4);
    let of_both = (mean(&tasks[0]) + mean(&tasks[1])) / 2.0;
    assert!((all["mean_return"].as_f64().unwrap() - of_both).abs() < 1e-6);

    let (first, last) = (&found[0]["validation_loss"], &last["validation_loss"]);
    assert!(last.as_f64().unwrap() < first.as_f64().unwrap(), "{first} to {last}");
    let metrics = fs::read_to_string(bench.path("run/metrics.jsonl")).unwrap();
    assert_eq!(metrics.matches("\"eval/loss\"").count(), 2);
    assert_eq!(metrics.matches("eval/mean_reward/Pendulum-v1").count(), 4);
    let card = fs::read_to_string(bench.path("run/README.md")).unwrap();
    assert!(card.contains("8 trajectories, 1600 steps"), "{card}");
}

#[test]
fn each_task_is_played_in_its_own_environment() {
    let bench = bench();
    bench.succeed(&["train", "tasks.toml", "--out", "run"]);
    let given =
        ["--set", "policy={ pretrained = { path = \"run/best/policy\" } }", "--set", "offline.updates=0"];
    bench.succeed(&[&["train", "tasks.toml", "--out", "both"], &given[..]].concat());
    let task = evaluations(&bench, "both")[0]["tasks"][0]["found"].clone();
    // The same policy, alone in the environment that is not the config's own.
    let alone =
        format!("evaluation={{ every = 1, episodes = 2, target_returns = [{}] }}", task["target_return"]);
    let alone = ["--set", &alone, "--set", "env.kwargs={ g = 2.0 }", "--out", "alone"];
    bench.succeed(&[&["train", "tasks.toml"], &given[..], &alone].concat());
    let mean = |found: &Value| found["mean_return"].as_f64().unwrap();
    let alone = evaluations(&bench, "alone")[0]["targets"][0].clone();
    assert!((mean(&task) - mean(&alone)).abs() < 1e-6, "{task} and {alone}");
}

#[test]
fn a_run_of_several_tasks_is_resumed_to_the_same_numbers() {
    let bench = bench();
    let short = ["--set", "evaluation.every=10", "--set", "checkpoint.every=10"];
    bench.succeed(&[&["train", "tasks.toml", "--out", "whole"], &short[..]].concat());
    bench.succeed(&[&["train", "tasks.toml", "--out", "stopped"], &short[..]].concat());
    fs::remove_dir_all(bench.path("stopped/checkpoints/00000020")).unwrap();
    fs::remove_file(bench.path("stopped/README.md")).unwrap();
    bench.succeed(&["train", "--resume", "stopped"]);
    assert_eq!(evaluations(&bench, "whole"), evaluations(&bench, "stopped"));
}

#[test]
fn what_several_tasks_lack_is_named() {
    let bench = bench();
    let refused = |set: &str| {
        let output = bench.run(&["train", "tasks.toml", "--out", "refused", "--set", set]);
        assert_eq!(output.status.code(), Some(2));
        assert!(!bench.path("refused").exists());
        String::from_utf8(output.stderr).unwrap()
    };
    let said = refused("data.validation_episodes=2");
    assert!(said.contains("must be less than the 2 episodes of \"g2.0\""), "{said}");
    let said = refused("evaluation.target_returns=[-100.0]");
    assert!(said.contains("must be absent where `evaluation.on_datasets` is true"), "{said}");

    let path = bench.path("g2.0/data/metadata.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\\\"id\\\":\\\"Pendulum-v1", "\\\"id\\\":\\\"gymnasium:evil:Pendulum-v1"))
        .unwrap();
    let said = refused("seed=1");
    assert!(said.contains("would import the module `evil`; --allow-imports says"), "{said}");
    let mut metadata: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    metadata.retain(|key, _| !key.contains("env"));
    fs::write(&path, serde_json::to_string(&metadata).unwrap()).unwrap();
    let said = refused("seed=1");
    assert!(said.contains("the dataset \"g2.0\" does not name its environment"), "{said}");
}
