//! Foundation policies of many tasks: named, played, trained, merged, and refused.

use std::fs;
use std::path::{Path, PathBuf};

use eva_rl_agents::tensor::file::TensorFile;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::support::{Bench, copy_folder, test_rows};

/// A Vintix policy of three tasks with random weights, in two groups.
const VINTIX: &str = "tests/golden/parity/vintix-1";

/// A JAT policy with random weights, of vectors up to 23 numbers, and of images.
const JAT: &str = "tests/golden/parity/jat-2";

/// Weights of L2M and LRAM policies, of up to 20 numbers a state and 6 an action.
const L2M: &str = "tests/golden/parity/l2m-3";

fn golden(policy: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(policy)
}

/// EVA on Vintix's Hopper by twenty offline updates.
pub const CONFIG: &str = r#"
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

/// What a checkpoint must hold to the bit, beside an adapter's config.
pub const ENDS: [&str; 2] = ["adapter/adapter_model.safetensors", "training_state.safetensors"];

const TD3: &str = r#"
replay_capacity = 6
noise = 0.1
rl_weight = 1.0
critic_warmup = 1
discount = 0.99
lambda = 0.9
critic_width = 16
critic_learning_rate = 1e-3
polyak = 0.005
target_noise = 0.1
target_noise_clip = 0.2
policy_delay = 1
"#;

/// The policies as `vintix`, `jat`, `l2m` and `lram`, random play as `data`, and the config.
pub fn bench() -> Bench {
    let bench = Bench::new();
    copy_folder(&golden(VINTIX), &bench.path("vintix"));
    copy_folder(&golden(JAT), &bench.path("jat"));
    for (family, steps) in [("l2m", 3), ("lram", 4)] {
        fs::create_dir(bench.path(family)).unwrap();
        let config = serde_json::json!({
            "model_type": family, "n_head": 4, "act_dim": 6, "action_channels": 10, "discrete_actions": 5,
            "max_length": steps, "global_pos_embds": family == "lram",
        });
        bench.write(&format!("{family}/config.json"), &config.to_string());
        fs::copy(golden(L2M).join(format!("{family}.pth")), bench.path(family).join("model.pth")).unwrap();
    }
    let collect = ["collect", "--env", "Hopper-v5", "--policy", "random", "--episodes", "8", "--out", "data"];
    bench.succeed(&collect);
    bench.write("config.toml", CONFIG);
    bench
}

#[track_caller]
pub fn check_refused(bench: &Bench, arguments: &[&str], sentence: &str) {
    let output = bench.run(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.lines().last().unwrap_or_default().contains(sentence), "{said}");
}

pub fn json(text: &str) -> Value {
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
    // The same again; otherwise once an episode outgrows the context of 12 steps.
    assert!(window["mean_length"].as_f64().unwrap() > 12.0, "{window}");
    assert_eq!(play("4", "window"), window);
    let others = [play("4", "cached"), play("4", "reference")];
    assert!(others.iter().all(|other| other["mean_return"] != window["mean_return"]), "{others:?}");
    // One environment's context goes on from episode to episode, so what it plays depends on those before.
    assert_ne!(play("1", "window")["mean_return"], window["mean_return"]);
}

#[test]
fn a_file_of_statistics_counts_before_the_task_s_own() {
    let bench = bench();
    let inspect = |rest: &[&str]| {
        let arguments = ["inspect", "vintix", "--task", "Hopper-v4", "--json"];
        json(&bench.succeed(&[&arguments[..], rest].concat()))
    };
    let own = inspect(&[]);
    bench.write("mean.json", &serde_json::json!({ "state_mean": vec![0.5; 11] }).to_string());
    let given = inspect(&["--statistics", "mean.json"]);
    assert_eq!(given["state_mean"], serde_json::json!(vec![0.5; 11]));
    // What the file does not say stays, to the bit.
    assert_eq!((&given["state_std"], &given["return_scale"]), (&own["state_std"], &own["return_scale"]));
    // Statistics of data lie beside an adapter as such a file.
    let data = ["--set", "policy.pretrained.statistics='data'", "--set", "offline.updates=2"];
    bench.succeed(&[&["train", "config.toml", "--out", "run"], &data[..]].concat());
    let mean = json(&fs::read_to_string(bench.path("run/best/adapter/statistics.json")).unwrap());
    assert_ne!(mean["state_mean"], own["state_mean"]);
    bench.succeed(&["evaluate", "run", "--env", "Hopper-v5", "--episodes", "1"]);
    bench.succeed(&["merge", "run", "--out", "merged"]);
    let merged = json(&bench.succeed(&["inspect", "merged", "--json"]));
    let numbers =
        |table: &Value| -> Vec<f32> { serde_json::from_value(table["state_mean"].clone()).unwrap() };
    assert_eq!(numbers(&merged), numbers(&mean));
    bench.write("short.json", &serde_json::json!({ "state_mean": [0.5] }).to_string());
    check_refused(
        &bench,
        &["inspect", "vintix", "--task", "Hopper-v4", "--statistics", "short.json"],
        "in \"short.json\", `state_mean` is [0.5], expected a list of 11 finite numbers",
    );
    bench.write("words.json", r#"{ "return_scale": "large" }"#);
    check_refused(
        &bench,
        &["inspect", "vintix", "--task", "Hopper-v4", "--statistics", "words.json"],
        "\"words.json\"",
    );
}

/// Trains offline by EVA and goes on with an algorithm online, and again from a checkpoint in its second round: both
/// end alike, the loss has fallen, and what was saved plays, merged or not.
fn train(bench: &Bench, config: &str, algorithm: &str, table: &str) {
    let exploration = "exploration = { rounds = 2, updates_per_round = 4 }\n";
    let loss = "[loss.online_dt]\ninitial_temperature = 0.1\ntemperature_learning_rate = 1e-3\n";
    let config = match algorithm {
        "filtered_bc" | "td3_odt" => config.to_owned(),
        _ => config.replace("[loss.behaviour_cloning]\n", loss),
    };
    bench.write("config.toml", &format!("{config}[online.{algorithm}]\n{table}{exploration}"));
    // What a kill after update 23 leaves, in the second round.
    bench.check_resume(&["config.toml"], &["00000024", "00000026", "00000028"], &ENDS);
    let losses: Vec<f64> = json(&fs::read_to_string(bench.path("whole/evaluation.json")).unwrap())
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["validation_loss"].as_f64().unwrap())
        .collect();
    assert!(losses[1] < losses[0], "the offline updates: {losses:?}");
}

/// The mean length of episodes that a policy plays.
fn length(bench: &Bench, arguments: &[&str]) -> Value {
    let rest = ["--env", "Hopper-v5", "--episodes", "2", "--num-envs", "2", "--json"];
    json(&bench.succeed(&[&["evaluate"], arguments, &rest[..]].concat()))["results"][0]["mean_length"].clone()
}

/// The adapter of the run's last checkpoint.
fn adapter(bench: &Bench) -> String {
    bench.path("whole/checkpoints/00000028/adapter").to_str().unwrap().to_owned()
}

fn vintix_row(algorithm: &str, table: &str) {
    let bench = bench();
    train(&bench, CONFIG, algorithm, table);
    // The run's config says which task is meant, and the merged policy its own.
    let merge = ["merge", "vintix", "--task", "Hopper-v4", "--adapter", &adapter(&bench), "--out", "merged"];
    bench.succeed(&merge);
    assert_eq!(length(&bench, &["merged"]), length(&bench, &["whole/checkpoints/00000028"]));
    let other_task = json(&bench.succeed(&["inspect", "merged", "--task", "push-v2", "--json"]));
    assert_eq!(other_task["state_dim"], 7);
}

fn jat_row(algorithm: &str, table: &str) {
    let bench = bench();
    let config = CONFIG.replace("path = \"vintix\"\ntask = \"Hopper-v4\"", "path = \"jat\"");
    train(&bench, &config, algorithm, table);
    bench.succeed(&["merge", "jat", "--adapter", &adapter(&bench), "--out", "merged"]);
    assert_eq!(length(&bench, &["merged"]), length(&bench, &["whole/checkpoints/00000028"]));
    // The merged policy still serves other environments.
    let cart_pole =
        ["evaluate", "merged", "--env", "CartPole-v1", "--episodes", "2", "--inference", "reference"];
    assert!(bench.succeed(&cart_pole).starts_with("reference inference: return "));
}

/// Either of the families whose actions are ids of a vocabulary.
fn ids_row(algorithm: &str, table: &str) {
    for family in ["l2m", "lram"] {
        let bench = bench();
        let config = CONFIG
            .replace("path = \"vintix\"\ntask = \"Hopper-v4\"", &format!("path = \"{family}\""))
            .replace("num_envs = 2", "num_envs = 2\ntarget_return = 30.0");
        train(&bench, &config, algorithm, table);
        bench.succeed(&["merge", family, "--adapter", &adapter(&bench), "--out", "merged"]);
        let target = ["--target-return", "30"];
        let play = |path: &str| length(&bench, &[&[path], &target[..]].concat());
        assert_eq!(play("merged"), play("whole/checkpoints/00000028"));
        let cart_pole =
            ["evaluate", "merged", "--env", "CartPole-v1", "--episodes", "2", "--actions", "sampled"];
        assert!(bench.succeed(&[&cart_pole[..], &target].concat()).contains("window inference"));
        let sampled = ["evaluate", family, "--env", "Hopper-v5", "--episodes", "2", "--actions", "sampled"];
        assert!(bench.succeed(&[&sampled[..], &target].concat()).contains("sampled actions"));
    }
}

mod every_algorithm_of_l2m_and_lram_resumes_to_the_same_bits {
    use super::*;

    test_rows! {
        ids_row: odt = "replay_capacity = 6\n",
        td3_odt = TD3,
        filtered_bc = "replay_capacity = 6\nnoise = 0.1\n",
    }
}

mod every_algorithm_of_vintix_resumes_to_the_same_bits {
    use super::*;

    test_rows! {
        vintix_row: odt = "replay_capacity = 6\n",
        filtered_bc = "replay_capacity = 6\nnoise = 0.1\n",
    }
}

mod every_algorithm_of_jat_resumes_to_the_same_bits {
    use super::*;

    test_rows! {
        jat_row: odt = "replay_capacity = 6\n",
        td3_odt = TD3,
        grpo = "group_size = 2\ndiscount = 0.9\nclip = 0.2\n",
        filtered_bc = "replay_capacity = 6\nnoise = 0.1\n",
    }
}

#[test]
fn an_adapter_of_either_is_initialised_from_data_alone() {
    let bench = bench();
    bench.succeed(&[
        "eva",
        "vintix",
        "--task",
        "Hopper-v4",
        "--data",
        "data",
        "--rank",
        "2",
        "--out",
        "of-vintix",
    ]);
    bench.succeed(&["eva", "jat", "--data", "data", "--rank", "2", "--out", "of-jat"]);
    // Vintix has two blocks of four layers, and JAT four of six; ranks are allocated within twice their mean.
    for (folder, sites) in [("of-vintix", 8), ("of-jat", 24)] {
        let found = json(&bench.succeed(&["inspect", folder, "--json"]));
        let ranks: Vec<u64> =
            found["sites"].as_array().unwrap().iter().map(|site| site["rank"].as_u64().unwrap()).collect();
        assert!(found["origin"].as_str().unwrap().starts_with("Eva "), "{found}");
        assert!(ranks.len() <= sites && ranks.iter().sum::<u64>() == 2 * sites as u64, "{folder}: {ranks:?}");
    }
}

#[test]
fn forwards_of_every_family_are_measured() {
    let bench = bench();
    for policy in ["vintix", "jat", "l2m", "lram"] {
        bench.succeed(&[
            "bench",
            "forward",
            "--policy",
            policy,
            "--batch-size",
            "2",
            "--steps",
            "3",
            "--seconds",
            "0.1",
        ]);
        bench.succeed(&[
            "bench",
            "eva",
            "--policy",
            policy,
            "--rank",
            "2",
            "--batch-size",
            "4",
            "--repeats",
            "1",
        ]);
    }
}

#[test]
fn jat_predicts_from_vectors_and_says_what_it_cannot_read() {
    let bench = bench();
    let float = (Kind::Float, Device::Cpu);
    let write = |name: &str, width: i64| {
        let tensors = [
            ("states", Tensor::randn([2, 3, width], float)),
            ("actions", Tensor::rand([2, 3, 5], float)),
            ("previous_rewards", Tensor::zeros([2, 3, 1], float)),
            ("timesteps", Tensor::arange(3, (Kind::Int64, Device::Cpu)).repeat([2, 1])),
        ];
        Tensor::write_safetensors(&tensors, bench.path(name)).unwrap();
    };
    write("inputs.safetensors", 7);
    bench.succeed(&["predict", "jat", "--inputs", "inputs.safetensors", "--out", "found.safetensors"]);
    let found = TensorFile::open(&bench.path("found.safetensors")).unwrap();
    assert_eq!(found.shape("action_preds"), Some(&[2, 3, 5][..]));
    assert_eq!(found.shape("state_preds"), Some(&[2, 3, 7][..]));
    write("wide.safetensors", 24);
    check_refused(
        &bench,
        &["predict", "jat", "--inputs", "wide.safetensors", "--out", "none.safetensors"],
        "`state_dim` is 24, expected less than 24, which hold the reward too",
    );
    check_refused(
        &bench,
        &["evaluate", "jat", "--env", "Hopper-v5", "--target-sweep=0:1:2"],
        "--target-sweep is given, and the policy is told no return",
    );
    check_refused(
        &bench,
        &["evaluate", "jat", "--task", "mujoco-hoper"],
        "expected one of its 157 tasks, such as \"mujoco-hopper\"",
    );
    check_refused(
        &bench,
        &["evaluate", "l2m", "--task", "mujoco-hopper", "--target-return", "1"],
        "the task of \"l2m\" is \"mujoco-hopper\", expected none",
    );
    check_refused(
        &bench,
        &["evaluate", "jat", "--env", "Ant-v5", "--episodes", "1"],
        "the policy does not serve `Ant-v5`: `state_dim` is 105, expected less than 24",
    );
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
    bench.write("ids.toml", &grpo.replace("path = \"vintix\"\ntask = \"Hopper-v4\"", "path = \"lram\""));
    check_refused(
        &bench,
        &["train", "ids.toml", "--set", "env.target_return=3.0"],
        "the policy reads windows that are padded to its context, and [online.grpo] compares likelihoods",
    );
    fs::copy(bench.path("config.toml"), bench.path("inputs.safetensors")).unwrap();
    check_refused(
        &bench,
        &["predict", "vintix", "--inputs", "inputs.safetensors", "--out", "none.safetensors"],
        "plays 3 tasks, and none is named",
    );
}

/// Puts `value` at `key` of the JSON object in `file`.
fn set(bench: &Bench, file: &str, key: &str, value: Value) {
    let path = bench.path("policy").join(file);
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
        copy_folder(&golden(VINTIX), &bench.path("policy"));
        set(&bench, file, key, value);
        check_refused(&bench, &["inspect", "policy"], sentence);
    }
    let bench = Bench::new();
    copy_folder(&golden(VINTIX), &bench.path("policy"));
    fs::remove_file(bench.path("policy/metadata.json")).unwrap();
    check_refused(&bench, &["inspect", "policy"], "metadata.json\": No such file");
    fs::remove_file(bench.path("policy/config.json")).unwrap();
    check_refused(&bench, &["inspect", "policy"], "policy");
}

#[test]
fn files_of_another_jat_are_refused_by_what_they_say() {
    for (key, value, sentence) in [
        ("num_layers", 3.into(), "`num_layers` is 3, expected 4, as attention_types have it"),
        (
            "attention_types",
            serde_json::json!([[["near"], 4]]),
            "`attention_types` is [[[\"near\"],4]], expected lists of",
        ),
        ("num_heads", 3.into(), "`n_head` is 3, expected a divisor of hidden_size 16"),
        (
            "max_continuous_size",
            30.into(),
            "`continuous_encoder.weight` with shape [16, 24], and its config asks for [16, 30]",
        ),
        ("window_size", 0.into(), "`window_size` is 0, expected a size of at least 1"),
    ] {
        let bench = Bench::new();
        copy_folder(&golden(JAT), &bench.path("policy"));
        set(&bench, "config.json", key, value);
        check_refused(&bench, &["inspect", "policy"], sentence);
    }
}
