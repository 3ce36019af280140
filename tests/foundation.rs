//! Foundation policies of many tasks: named, played, trained, merged, and refused.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Bench, copy_folder, test_rows};

/// A Vintix policy of three tasks with random weights, in two groups.
const VINTIX: &str = "tests/golden/parity/vintix-1";

const CONFIG: &str = r#"
seed = 3
[policy.pretrained]
path = "vintix"
task = "Hopper-v4"
[data]
datasets = ["data"]
validation_episodes = 2
[adapter.eva]
rho = 2.0
tau = 0.99
max_batches = 20
[adapter.eva.lora]
rank = 2
alpha = 1.0
dropout = 0.0
[loss.behaviour_cloning]
[optimiser]
batch_size = 8
learning_rate = 1e-2
weight_decay = 0.0
gradient_clip = 1.0
schedule = { constant = { warmup = 0 } }
[offline]
updates = 20
[env]
id = "Hopper-v5"
num_envs = 2
[evaluation]
every = 20
episodes = 4
[checkpoint]
every = 2
"#;

/// The policy as `vintix`, random play as `data`, and the config.
fn bench() -> Bench {
    let bench = Bench::new();
    copy_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join(VINTIX), &bench.path("vintix"));
    let collect = ["collect", "--env", "Hopper-v5", "--policy", "random", "--episodes", "8", "--out", "data"];
    bench.succeed(&collect);
    bench.write("config.toml", CONFIG);
    bench
}

#[track_caller]
fn check_refused(bench: &Bench, arguments: &[&str], sentence: &str) {
    let output = bench.run(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.lines().last().unwrap_or_default().contains(sentence), "{said}");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn tasks_are_listed_and_played_by_every_inference() {
    let bench = bench();
    let found = json(&bench.succeed(&["inspect", "vintix", "--json"]));
    let names: Vec<&str> =
        found["tasks"].as_array().unwrap().iter().map(|task| task["task"].as_str().unwrap()).collect();
    assert_eq!(names, ["Hopper-v4", "push-v2", "reach-v2"]);
    let play = |num_envs: &str, inference: &str| {
        let arguments = ["evaluate", "vintix", "--env", "Hopper-v5", "--task", "Hopper-v4", "--json"];
        let rest = ["--episodes", "4", "--num-envs", num_envs, "--inference", inference];
        json(&bench.succeed(&[&arguments[..], &rest[..]].concat()))["results"][0].clone()
    };
    let window = play("4", "window");
    assert_eq!(window["target_return"], Value::Null);
    // An episode each is shorter than the half of a context that caches keep, or not: a policy that forgets otherwise
    // plays otherwise, and one that is asked again does not.
    assert_eq!(play("4", "window"), window);
    let others = [play("4", "cached"), play("4", "reference")];
    assert!(others.iter().all(|other| other["mean_return"] != window["mean_return"]), "{others:?}");
    // One environment's context goes on from episode to episode, so what it plays depends on those before.
    assert_ne!(play("1", "window")["mean_return"], window["mean_return"]);
}

/// Trains offline by EVA and goes on with an algorithm online, and again from a checkpoint in its second round: both
/// end alike, the loss has fallen, and what was saved plays, merged or not.
fn row(name: &str, table: &str) {
    let bench = bench();
    let exploration = "exploration = { rounds = 2, updates_per_round = 4 }\n";
    let loss = "[loss.online_dt]\ninitial_temperature = 0.1\ntemperature_learning_rate = 1e-3\n";
    let config = match name {
        "odt" => CONFIG.replace("[loss.behaviour_cloning]\n", loss),
        _ => CONFIG.to_owned(),
    };
    bench.write("config.toml", &format!("{config}[online.{name}]\n{table}{exploration}"));
    for out in ["whole", "killed"] {
        bench.succeed(&["train", "config.toml", "--out", out]);
    }
    for updates in ["00000024", "00000026", "00000028"] {
        // What a kill after update 23 leaves.
        fs::remove_dir_all(bench.path("killed/checkpoints").join(updates)).ok();
    }
    bench.succeed(&["train", "--resume", "killed"]);
    let ends = |run: &str| {
        ["adapter/adapter_model.safetensors", "training_state.safetensors"]
            .map(|file| fs::read(bench.path(run).join("checkpoints/00000028").join(file)).unwrap())
    };
    assert!(ends("whole") == ends("killed"), "{name} ends otherwise");
    let losses: Vec<f64> = json(&fs::read_to_string(bench.path("whole/evaluation.json")).unwrap())
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["validation_loss"].as_f64().unwrap())
        .collect();
    assert!(losses[1] < losses[0], "the offline updates: {losses:?}");

    // The run's config says which task is meant, and the merged policy its own.
    let adapter = bench.path("whole/checkpoints/00000028/adapter").to_str().unwrap().to_owned();
    bench.succeed(&["merge", "vintix", "--task", "Hopper-v4", "--adapter", &adapter, "--out", "merged"]);
    let play = |arguments: &[&str]| {
        let rest = ["--env", "Hopper-v5", "--episodes", "2", "--num-envs", "2", "--json"];
        json(&bench.succeed(&[&["evaluate"], arguments, &rest[..]].concat()))["results"][0].clone()
    };
    let adapted = play(&["whole/checkpoints/00000028"]);
    assert_eq!(play(&["merged"])["mean_length"], adapted["mean_length"]);
    let other_task = json(&bench.succeed(&["inspect", "merged", "--task", "push-v2", "--json"]));
    assert_eq!(other_task["state_dim"], 7);
}

mod every_algorithm_over_episodes_resumes_to_the_same_bits {
    use super::*;

    test_rows! {
        row: odt = "replay_capacity = 6\n",
        filtered_bc = "replay_capacity = 6\nnoise = 0.1\n",
    }
}

#[test]
fn what_no_policy_of_many_tasks_can_do_is_refused_in_a_sentence() {
    let bench = bench();
    let evaluate = |rest: &[&'static str]| [&["evaluate", "vintix", "--env", "Hopper-v5"], rest].concat();
    check_refused(
        &bench,
        &evaluate(&[]),
        "plays 3 tasks, and none is named, expected `task` to be one of \"Hopper-v4\", \"push-v2\", \"reach-v2\"",
    );
    check_refused(
        &bench,
        &evaluate(&["--task", "hopper"]),
        "metadata.json\", `task` is \"hopper\", expected one of",
    );
    check_refused(
        &bench,
        &evaluate(&["--task", "Hopper-v4", "--target-return", "100"]),
        "--target-return is 100, and the policy is told no return",
    );
    check_refused(
        &bench,
        &evaluate(&["--task", "push-v2"]),
        "the policy reads states of 7 numbers, and `Hopper-v5` has 11 numbers",
    );
    check_refused(
        &bench,
        &["train", "config.toml", "--set", "env.target_return=3.0"],
        "the config names returns to ask for, and the policy is told none",
    );
    let grpo = format!(
        "{}[online.grpo]\ngroup_size = 2\ndiscount = 0.9\nclip = 0.2\nexploration = {{ rounds = 1, updates_per_round = 1 }}\n",
        CONFIG.replace(
            "[loss.behaviour_cloning]\n",
            "[loss.online_dt]\ninitial_temperature = 0.1\ntemperature_learning_rate = 1e-3\n"
        )
    );
    bench.write("grpo.toml", &grpo);
    check_refused(&bench, &["train", "grpo.toml"], "the policy's context goes on over episodes");
}

/// Puts `value` at `key` of the JSON object in `file`.
fn set(bench: &Bench, file: &str, key: &str, value: Value) {
    let path = bench.path("vintix").join(file);
    let mut table = json(&fs::read_to_string(&path).unwrap());
    *key.split('/').fold(&mut table, |table, key| &mut table[key]) = value;
    fs::write(path, table.to_string()).unwrap();
}

#[test]
fn files_of_another_vintix_are_refused_by_what_they_say() {
    for (file, key, value, sentence) in [
        (
            "config.json",
            "norm_class",
            "RMSNorm".into(),
            "`norm_class` is \"RMSNorm\", expected \"LayerNorm\"",
        ),
        (
            "config.json",
            "mlp_class",
            "LLaMAMLP".into(),
            "`mlp_class` is \"LLaMAMLP\", expected \"GptNeoxMLP\"",
        ),
        ("config.json", "parallel_residual", true.into(), "`parallel_residual` is true, expected false"),
        ("config.json", "norm_acs", true.into(), "`norm_acs` is true, expected false"),
        ("config.json", "hidden_dim", 40.into(), "`hidden_dim` is 40, expected 15 + 15 + 2"),
        ("config.json", "transformer_heads", 5.into(), "`n_head` is 5, expected a divisor of hidden_size 32"),
        ("metadata.json", "push-v2/action_dim", 5.into(), "`reach-v2.group_name` is \"arm\""),
        ("metadata.json", "push-v2/obs_mean", vec![1.0].into(), "`push-v2.obs_mean` is a list of 1 numbers"),
        ("metadata.json", "push-v2/action_type", "discrete".into(), "`push-v2.action_type` is \"discrete\""),
        ("metadata.json", "push-v2/group_name", "legs".into(), "lacks `encoder.obs_encoders.legs.layers.0"),
    ] {
        let bench = Bench::new();
        copy_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join(VINTIX), &bench.path("vintix"));
        set(&bench, file, key, value);
        check_refused(&bench, &["inspect", "vintix"], sentence);
    }
    let bench = Bench::new();
    copy_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join(VINTIX), &bench.path("vintix"));
    fs::remove_file(bench.path("vintix/metadata.json")).unwrap();
    check_refused(&bench, &["inspect", "vintix"], "metadata.json\": No such file");
    fs::remove_file(bench.path("vintix/config.json")).unwrap();
    check_refused(&bench, &["inspect", "vintix"], "vintix");
}
