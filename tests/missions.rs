//! JAT in BabyAI: symbols and missions as ids, from EnvPool's environments and from datasets of them.

use std::fs;
use std::path::Path;

use eva_rl_agents::tensor::file::TensorFile;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::foundation::{CONFIG, check_refused, json};
use crate::support::{Bench, copy_folder};

/// A JAT policy with random weights and GPT-2's tokenizer of few merges.
const JAT: &str = "tests/golden/parity/jat-3";

const TASK: [&str; 2] = ["--task", "babyai-go-to-red-ball-grey"];

/// The policy in `name`, with room for missions of so many tokens; it can read images, which then lie apart, or not.
fn policy(bench: &Bench, name: &str, room: i64, images: bool) {
    let folder = bench.path(name);
    copy_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join(JAT), &folder);
    let mut config = json(&fs::read_to_string(folder.join("config.json")).unwrap());
    config["max_discrete_value"] = json!(148 + room);
    bench.write(&format!("{name}/config.json"), &config.to_string());
    let file = TensorFile::open(&folder.join("model.safetensors")).unwrap();
    let mut tensors: Vec<(String, Tensor)> = file
        .names()
        .filter(|name| !name.starts_with("multi_discrete_decoder"))
        .map(|name| (name.to_owned(), file.read(name).unwrap()))
        .collect();
    let numbers = |shape: &[i64]| {
        let count = shape.iter().product::<i64>();
        (Tensor::arange(count, (Kind::Float, Device::Cpu)) * 1.7).sin().view(shape) // as good as random
    };
    tensors.retain(|(name, _)| !name.starts_with("multi_discrete_encoder"));
    tensors.push(("multi_discrete_encoder.1.weight".to_owned(), numbers(&[2, 104]) * 30));
    tensors.push(("multi_discrete_encoder.1.bias".to_owned(), numbers(&[2])));
    tensors.push(("multi_discrete_encoder.4.weight".to_owned(), numbers(&[103, 2 * (148 + room)])));
    tensors.push(("multi_discrete_encoder.4.bias".to_owned(), numbers(&[103])));
    if images {
        tensors.push(("image_encoder.module.conv1.bias".to_owned(), numbers(&[32])));
    }
    Tensor::write_safetensors(&tensors, folder.join("model.safetensors")).unwrap();
}

/// What four episodes with sampled actions come to.
fn play(bench: &Bench, policy: &str) -> Value {
    let rest = ["--episodes", "4", "--num-envs", "4", "--seed", "2", "--actions", "sampled", "--json"];
    json(&bench.succeed(&[&["evaluate", policy], &TASK[..], &rest].concat()))
}

#[test]
fn missions_are_played_recorded_trained_on_and_still_read_after_a_merge() {
    let bench = Bench::new();
    policy(&bench, "jat", 64, true);
    policy(&bench, "blind", 64, false);
    let found = play(&bench, "jat");
    assert_eq!(found["env"]["id"], "envpool:BabyAI-GoToRedBallGrey-v0");
    let scores = json!({ "random": 0.12386735575833144, "expert": 0.9168977980148793 });
    assert_eq!(found["results"][0]["reference_scores"], scores);
    // An image is the same ids wherever it lies.
    assert_eq!(play(&bench, "blind")["results"], found["results"]);

    let collect =
        ["collect", "--policy", "jat", "--episodes", "4", "--num-envs", "4", "--actions", "sampled"];
    bench.succeed(&[&collect[..], &TASK, &["--out", "data"]].concat());
    let recorded = json(&bench.succeed(&["inspect", "data", "--json"]));
    assert_eq!(recorded["image_shape"], json!([3, 7, 7]));

    let id = "id = \"envpool:BabyAI-GoToRedBallGrey-v0\"";
    let of_jat = CONFIG.replace("path = \"vintix\"\ntask = \"Hopper-v4\"", "path = \"jat\"");
    bench.write("config.toml", &of_jat.replace("id = \"Hopper-v5\"", id));
    bench.succeed(&["train", "config.toml", "--out", "run", "--set", "optimiser.learning_rate=3e-2"]);
    let evaluations = json(&fs::read_to_string(bench.path("run/evaluation.json")).unwrap());
    let losses: Vec<f64> =
        evaluations.as_array().unwrap().iter().map(|row| row["validation_loss"].as_f64().unwrap()).collect();
    assert!(losses[1] < losses[0], "{losses:?}");

    bench.succeed(&["merge", "jat", "--adapter", "run/checkpoints/00000020/adapter", "--out", "merged"]);
    let results = |policy: &str| {
        let on_data = json(&bench.succeed(&["inspect", policy, "--data", "data", "--json"]));
        (play(&bench, policy)["results"].clone(), on_data["reproduction"].clone())
    };
    let merged = results("merged");
    assert!(merged.0[0]["mean_return"].as_f64().unwrap() > 0.0, "{merged:?}");
    assert_eq!(merged, results("run/checkpoints/00000020"));
    assert_ne!(merged.0, found["results"], "training changed what it does");
    let said = bench.succeed(&["push", "merged", "hf:me/jat", "--dry-run"]);
    assert!(said.contains("\ntokenizer.json: ") && !said.contains("merges.txt"), "{said}");
}

#[test]
fn an_adapter_is_initialised_from_recorded_missions_by_either_layout() {
    let bench = Bench::new();
    policy(&bench, "jat", 64, true);
    policy(&bench, "blind", 64, false);
    let collect = ["collect", "--policy", "random", "--episodes", "4", "--num-envs", "2", "--out", "data"];
    bench.succeed(&[&collect[..], &["--env", "envpool:BabyAI-GoToLocal-v0"]].concat());
    let adapter = |policy: &str| {
        let out = format!("of-{policy}");
        bench.succeed(&["eva", policy, "--data", "data", "--rank", "2", "--out", &out]);
        fs::read(bench.path(&out).join("adapter_model.safetensors")).unwrap()
    };
    assert!(adapter("jat") == adapter("blind"));
}

#[test]
fn what_reads_no_mission_says_so_in_a_sentence() {
    let bench = Bench::new();
    policy(&bench, "short", 4, true);
    let evaluate = |policy: &'static str| [&["evaluate", policy], &TASK[..], &["--episodes", "1"]].concat();
    check_refused(
        &bench,
        &evaluate("short"),
        "the environment says what the policy does not know: \"go to the red ball\" has 5 tokens, expected at most 4",
    );
    let collect = ["collect", "--policy", "random", "--episodes", "2", "--out", "data"];
    bench.succeed(&[&collect[..], &["--env", "envpool:BabyAI-GoToRedBallGrey-v0"]].concat());
    check_refused(
        &bench,
        &["eva", "short", "--data", "data", "--rank", "2", "--out", "none"],
        "the dataset \"data\" says what the policy does not know: \"go to the red ball\" has 5 tokens",
    );

    policy(&bench, "mute", 64, true);
    for file in ["tokenizer.json", "merges.txt"] {
        fs::remove_file(bench.path("mute").join(file)).unwrap();
    }
    check_refused(
        &bench,
        &evaluate("mute"),
        "the policy does not serve `envpool:BabyAI-GoToRedBallGrey-v0`: `tokenizer.json` is absent, expected it, or `vocab.json` and `merges.txt`, beside config.json",
    );
    // Everything else it plays as before.
    bench.succeed(&["evaluate", "mute", "--env", "CartPole-v1", "--episodes", "1"]);
    check_refused(
        &bench,
        &["evaluate", "mute", "--task", "babyai-go-to-red-bal"],
        "the task of \"mute\" is \"babyai-go-to-red-bal\", expected one of its 157 tasks, such as \"babyai-go-to-red-ball\"",
    );
}
