//! Policies that read images: their data, training, and what they refuse.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{Bench, PRETRAIN, test_rows};

/// The reference's policy of 84 × 84 images, four deep, and 18 actions.
const POLICY: &str = "tests/golden/parity/atari-dt-3/model.pth";

const CONFIG: &str = r#"
seed = 3
[policy.pretrained]
path = "POLICY"
[data]
datasets = ["data"]
[adapter.lora]
rank = 2
alpha = 4.0
dropout = 0.0
[loss.online_dt]
initial_temperature = 0.1
temperature_learning_rate = 1e-3
[optimiser]
batch_size = 8
learning_rate = 1e-3
weight_decay = 0.0
gradient_clip = 1.0
schedule = { constant = { warmup = 0 } }
[offline]
updates = 4
[env]
id = "gymnasium:Bars-v0"
num_envs = 2
target_return = 8.0
bridge = { imports = ["pixel_envs"] }
[evaluation]
every = 12
episodes = 2
[checkpoint]
every = 2
"#;

fn config() -> String {
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join(POLICY);
    CONFIG.replace("POLICY", policy.to_str().unwrap())
}

/// A command whose workers find `envs/tests/pixel_envs.py`.
fn run(bench: &Bench, arguments: &[&str]) -> Output {
    let mut command: Command = bench.command(arguments);
    command.env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("envs/tests"));
    command.output().unwrap()
}

#[track_caller]
fn succeed(bench: &Bench, arguments: &[&str]) -> String {
    let output = run(bench, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn check_refused(bench: &Bench, arguments: &[&str], sentence: &str) {
    let output = run(bench, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = said.lines().last().unwrap_or_default();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(last.starts_with("eva-rl: ") && last.contains(sentence), "{said}");
}

/// Four episodes of random play as `data`.
fn collect(bench: &Bench, show: &str) {
    let show = format!("show={show}");
    let arguments =
        ["collect", "--env", "gymnasium:Bars-v0", "--env-import", "pixel_envs", "--env-kwarg", &show];
    let rest = ["--policy", "random", "--episodes", "4", "--num-envs", "2", "--seed", "5", "--out", "data"];
    succeed(bench, &[&arguments[..], &rest[..]].concat());
}

#[test]
fn images_are_recorded_as_bytes_and_read_as_images() {
    let bench = Bench::new();
    collect(&bench, "stacked");
    let found: Value = serde_json::from_str(&succeed(&bench, &["inspect", "data", "--json"])).unwrap();
    assert_eq!(found["image_shape"], serde_json::json!([4, 84, 84]));
    assert_eq!((&found["observation_width"], &found["steps"]), (&0.into(), &32.into()));
    let size = fs::metadata(bench.path("data/data/main_data.hdf5")).unwrap().len();
    assert!(size < 36 * 28_224 / 20, "{size} bytes for 36 images of 28,224");
}

/// Trains offline, then with an algorithm online, and again from a checkpoint in the second round: both end alike.
fn row(name: &str, table: &str) {
    let bench = Bench::new();
    collect(&bench, "stacked");
    let exploration = "exploration = { rounds = 2, updates_per_round = 4 }\n";
    bench.write("config.toml", &format!("{}[online.{name}]\n{table}{exploration}", config()));
    for out in ["whole", "killed"] {
        succeed(&bench, &["train", "config.toml", "--out", out]);
    }
    for updates in ["00000008", "00000010", "00000012"] {
        // What a kill after update 7 leaves; some of these are no longer kept anyway.
        fs::remove_dir_all(bench.path("killed/checkpoints").join(updates)).ok();
    }
    succeed(&bench, &["train", "--resume", "killed"]);
    let ends = |run: &str| {
        ["adapter/adapter_model.safetensors", "training_state.safetensors"]
            .map(|file| fs::read(bench.path(run).join("checkpoints/00000012").join(file)).unwrap())
    };
    assert!(ends("whole") == ends("killed"), "{name} ends otherwise");
    let found = succeed(
        &bench,
        &[
            "evaluate",
            "whole/best",
            "--env",
            "gymnasium:Bars-v0",
            "--env-import",
            "pixel_envs",
            "--target-return",
            "8",
        ],
    );
    assert!(found.contains("of 8 steps"), "{found}");
}

mod every_algorithm_of_images_resumes_to_the_same_bits {
    use super::*;

    test_rows! {
        row: odt = "replay_capacity = 6\n",
        grpo = "group_size = 2\ndiscount = 0.9\nclip = 0.2\n",
        filtered_bc = "replay_capacity = 6\nnoise = 0.1\n",
    }
}

/// The mean returns of the evaluations of `run`.
fn evaluations(bench: &Bench) -> Vec<f64> {
    let found = fs::read_to_string(bench.path("run/evaluation.json")).unwrap();
    let found: Value = serde_json::from_str(&found).unwrap();
    let all = found.as_array().unwrap().iter();
    all.map(|one| one["targets"][0]["mean_return"].as_f64().unwrap()).collect()
}

/// The losses that `run` recorded.
fn losses(bench: &Bench) -> Vec<f64> {
    let metrics = fs::read_to_string(bench.path("run/metrics.jsonl")).unwrap();
    let lines = metrics.lines().filter(|line| line.contains("train/loss"));
    lines.map(|line| serde_json::from_str::<Value>(line).unwrap()["value"].as_f64().unwrap()).collect()
}

#[test]
fn a_policy_learns_from_images_whatever_their_layout() {
    for show in ["stacked", "channels last", "whole"] {
        let bench = Bench::new();
        collect(&bench, show);
        bench.write("config.toml", &config());
        let kwargs = format!("env.kwargs.show=\"{show}\"");
        let sets = ["adapter={ full_fine_tuning = {} }", "offline.updates=40", &kwargs];
        let sets = sets.map(|set| ["--set", set]);
        succeed(&bench, &[&["train", "config.toml", "--out", "run"], sets.as_flattened()].concat());
        let losses = losses(&bench);
        assert!(losses.last().unwrap() < &(0.9 * losses[0]), "{show}: {losses:?}");
    }
}

mod new_policies_of_every_network_learn_and_act {
    use super::*;

    /// Pretrains a new policy from the data alone, and plays it by windows and by the cache.
    fn row(network: &str, (table, own): (&str, &str)) {
        let bench = Bench::new();
        collect(&bench, "stacked");
        let new = format!(
            "[policy.{table}]\nhidden_size = 16\nlayers = 1\nheads = 2\ndropout = 0.0\ncontext_length = 4\nmax_episode_length = 20\nreturn_scale = 8.0\ntarget_return = 8.0\n{own}\n[data]"
        );
        let (before, after) =
            config().split_once("[policy.pretrained]").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let after = after.split_once("[data]").unwrap().1;
        bench.write("config.toml", &format!("{before}{new}{after}"));
        let sets = ["adapter={ full_fine_tuning = {} }", "offline.updates=40"].map(|set| ["--set", set]);
        succeed(&bench, &[&["train", "config.toml", "--out", "run"], sets.as_flattened()].concat());
        let losses = losses(&bench);
        assert!(losses.last().unwrap() < &(0.95 * losses[0]), "{network}: {losses:?}");
        for inference in ["window", "cached"] {
            let env = ["--env", "gymnasium:Bars-v0", "--env-import", "pixel_envs", "--inference", inference];
            let found = succeed(&bench, &[&["evaluate", "run/best/policy"], env.as_slice()].concat());
            assert!(found.contains("of 8 steps"), "{found}");
        }
        // It has no numbers beside its images, in whatever else reads it.
        let sets = ["policy={ pretrained = { path = \"run/best/policy\" } }", "evaluation.actions=sampled"];
        let sets = sets.map(|set| ["--set", set]);
        succeed(&bench, &[&["train", "config.toml", "--out", "again"], sets.as_flattened()].concat());
        let found = fs::read_to_string(bench.path("again/evaluation.json")).unwrap();
        assert!(found.contains("\"actions\": \"sampled\""), "{found}");
        succeed(&bench, &["eva", "run/best/policy", "--data", "data", "--out", "adapter"]);
    }

    test_rows! {
        row: nature_cnn = ("new", "image_encoder = \"nature_cnn\""),
        impala_cnn = ("new", "image_encoder = \"impala_cnn\""),
        symbols = ("new", "image_encoder = \"symbols\""),
        l2m = ("new_l2m", "bins = 4\ndiscrete_actions = 18"),
        lram = ("new_lram", "bins = 4\ndiscrete_actions = 18"),
    }
}

/// A policy of symbols, a direction and a mission, of which the mission alone says what to do.
#[test]
fn a_policy_does_what_its_mission_says_and_refuses_words_that_it_does_not_know() {
    let bench = Bench::new();
    let keys = ["--env", "gymnasium:Keys-v0", "--env-import", "pixel_envs"];
    let rest = ["--policy", "random", "--episodes", "200", "--num-envs", "4", "--seed", "5", "--out", "data"];
    succeed(&bench, &[&["collect"], keys.as_slice(), &rest].concat());
    let found = succeed(&bench, &["inspect", "data"]);
    assert!(found.contains("image_shape: 3, 7, 7") && found.contains("observation_width: 24"), "{found}");

    let new = "[policy.new]\nhidden_size = 32\nlayers = 1\nheads = 2\ndropout = 0.0\ncontext_length = 2\nmax_episode_length = 20\nreturn_scale = 1.0\ntarget_return = 1.0\nimage_encoder = \"symbols\"\ntext = \"mission\"\n[data]";
    let config = config().replace("Bars-v0", "Keys-v0").replace("target_return = 8.0", "target_return = 1.0");
    let (before, after) = config.split_once("[policy.pretrained]").unwrap();
    let after = after.split_once("[data]").unwrap().1;
    bench.write("config.toml", &format!("{before}{new}{after}"));
    let sets = [
        "adapter={ full_fine_tuning = {} }",
        "optimiser.batch_size=32",
        "offline.updates=900",
        "evaluation.every=900",
        "evaluation.episodes=100",
        "checkpoint.every=900",
    ];
    let sets = sets.map(|set| ["--set", set]);
    succeed(&bench, &[&["train", "config.toml", "--out", "run"], sets.as_flattened()].concat());
    let returns: Vec<f64> = evaluations(&bench);
    // Whoever does not read it earns a third, and more than half in one of a thousand evaluations.
    assert!(returns.last().unwrap() > &0.5, "random play earns a third, and the policy {returns:?}");
    let config = fs::read_to_string(bench.path("run/best/policy/config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["text"]["words"], serde_json::json!(["blue", "green", "key", "red", "take", "the"]));

    let play = ["evaluate", "run/best/policy", "--episodes", "3"];
    let other = ["--env-kwarg", "colours=[\"pink\", \"pink\", \"pink\"]"];
    let sentence = "holds the word \"pink\", expected blue, green, key, red, take, the";
    check_refused(&bench, &[play.as_slice(), &keys, &other].concat(), sentence);
    let sentence =
        "`policy.new.text` is \"task\", expected the key of a text of the data's observations: \"mission\"";
    let other = ["train", "config.toml", "--set", "policy.new.text=task", "--out", "other"];
    check_refused(&bench, &[other.as_slice(), &sets.as_flattened()[..2]].concat(), sentence);
}

#[test]
fn what_does_not_fit_is_refused_in_one_sentence() {
    let bench = Bench::with_policy(); // of vectors, with a dataset of vectors
    fs::rename(bench.path("data"), bench.path("vectors")).unwrap();
    collect(&bench, "stacked");
    bench.write("config.toml", &config());
    let train = |sets: &[&str]| {
        let out = ["train", "config.toml", "--out", "run"].map(str::to_owned);
        let sets = sets.iter().flat_map(|set| ["--set".to_owned(), (*set).to_owned()]);
        out.into_iter().chain(sets).collect::<Vec<String>>()
    };
    let check = |sets: &[&str], sentence: &str| {
        let arguments = train(sets);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        check_refused(&bench, &arguments, sentence);
        assert!(!bench.path("run").exists());
    };
    check(&["env.id=\"Pendulum-v1\"", "env.bridge={}"], "`env.bridge` is given for the native `Pendulum-v1`");
    check(&["data.datasets=[\"vectors\"]"], "has observations of 3 numbers, and `gymnasium:Bars-v0` has 0");
    check(
        &["policy.pretrained.path=\"policy\""],
        "the policy reads states of 3 numbers, and `gymnasium:Bars-v0` has 28224 numbers",
    );
    let td3 = "online={ td3_odt = { replay_capacity = 5, noise = 0.1, rl_weight = 0.5, critic_warmup = 2, discount = 0.99, lambda = 0.5, critic_width = 16, critic_learning_rate = 1e-3, polyak = 0.05, target_noise = 0.2, target_noise_clip = 0.5, policy_delay = 2, exploration = { rounds = 2, updates_per_round = 4 } } }";
    check(
        &[td3],
        "the policy reads images [4, 84, 84], and the critics of [online.td3_odt] read vectors; expected",
    );
    let pretrain = PRETRAIN.replace("[data]", "image_encoder = \"nature_cnn\"\n[data]");
    bench.write("pretrain.toml", &pretrain.replace("[\"data\"]", "[\"vectors\"]"));
    let sentence = "`policy.new.image_encoder` is given, and the dataset \"vectors\" has no images";
    check_refused(&bench, &["train", "pretrain.toml", "--out", "run"], sentence);
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join(POLICY);
    let arguments = ["eva", policy.to_str().unwrap(), "--data", "vectors", "--rank", "2", "--out", "adapter"];
    check_refused(
        &bench,
        &arguments,
        "the policy reads states of images [4, 84, 84], and the dataset \"vectors\" has 3 numbers",
    );
}

/// What `make demo-pixels` does, in small: two games of 40 steps, two updates, and evaluations of two games of 60 steps.
#[test]
fn the_pixel_demo_adapts_the_shipped_policy() {
    let bench = Bench::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let game = ["--env-kwarg", "full_action_space=true", "--env-kwarg", "shift_frames=4"];
    let arguments = ["collect", "--env", "envpool:Breakout-v5", "--env-kwarg", "max_episode_steps=40"];
    let rest = [
        "--policy",
        "scripted",
        "--noise",
        "0",
        "--episodes",
        "2",
        "--out",
        "datasets/atari/Breakout-shifted",
    ];
    succeed(&bench, &[&arguments[..], &game, &rest].concat());
    let config = fs::read_to_string(root.join("configs/pixels-finetune.toml")).unwrap();
    bench.write(
        "config.toml",
        &config.replace("policies/pixels", root.join("policies/pixels").to_str().unwrap()),
    );
    let small = ["offline.updates=2", "evaluation.episodes=2", "evaluation.every=2", "env.num_envs=2"]
        .into_iter()
        .chain(["env.kwargs.max_episode_steps=60", "optimiser.batch_size=16"]);
    let small: Vec<&str> = small.flat_map(|setting| ["--set", setting]).collect();
    succeed(&bench, &[&["train", "config.toml", "--out", "run"], &small[..]].concat());
    for film in ["before.gif", "after.gif"] {
        assert!(fs::metadata(bench.path("run").join(film)).unwrap().len() > 1000, "{film}");
    }
    let adapted: Value =
        serde_json::from_slice(&fs::read(bench.path("run/best/adapter/adapter_config.json")).unwrap())
            .unwrap();
    let modules = adapted["target_modules"].to_string();
    assert!(modules.contains("embed_image.convolutions.0"), "{modules}");
    let table = succeed(&bench, &["report", "run"]);
    assert!(table.contains("EVA"), "{table}");
}
