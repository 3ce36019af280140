//! New policies whose actions are ids of a vocabulary: trained, played, resumed, fine-tuned, and refused.

use std::fs;

use serde_json::Value;

use crate::support::{Bench, PRETRAIN, test_rows};

/// Keys of either family that the decision transformer's table has too, and its own.
const KEYS: &str = "hidden_size = 16\nlayers = 1\nheads = 2\ndropout = 0.1\ncontext_length = 3\nmax_episode_length = 200\nreturn_scale = 200.0\ntarget_return = -200.0\n";

/// Play of `env` as `data`, and as `config.toml` a run of twelve updates of a new policy on it.
fn bench(family: &str, keys: &str, env: &str) -> Bench {
    let bench = Bench::new();
    bench.succeed(&["collect", "--env", env, "--policy", "scripted", "--episodes", "4", "--out", "data"]);
    let rest = PRETRAIN.split_once("[data]").unwrap().1;
    let rest = rest.replace("Pendulum-v1", env).replace("updates = 20", "updates = 12");
    let rest =
        rest.replace("every = 20\nepisodes", "every = 12\nepisodes").replace("every = 20", "every = 4");
    bench.write("config.toml", &format!("seed = 3\n[policy.new_{family}]\n{KEYS}{keys}[data]{rest}"));
    bench
}

fn json(bench: &Bench, path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(bench.path(path)).unwrap()).unwrap()
}

/// Trains, and again from a checkpoint on: both end alike. What was saved plays and is fine-tuned.
fn row(name: &str, (keys, env, wanted): (&str, &str, &[(&str, Value)])) {
    let family = name.split('_').next().unwrap();
    let bench = bench(family, keys, env);
    let files = ["policy/model.safetensors", "training_state.safetensors"];
    bench.check_resume(&["config.toml"], &["00000008", "00000012"], &files);

    let config = json(&bench, "whole/best/policy/config.json");
    assert_eq!(config["model_type"], family);
    assert!(config["state_mean"].is_array() && config["activation_function"] == "gelu", "{config}");
    for (key, value) in wanted {
        assert_eq!(config[key], *value, "{key} of {config}");
    }
    let play = |policy: &str| bench.succeed(&["evaluate", policy, "--env", env, "--episodes", "4", "--json"]);
    // Written and read back, it is the same policy.
    fs::create_dir(bench.path("copied")).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(bench.path("whole/best/policy").join(file), bench.path("copied").join(file)).unwrap();
    }
    let results = |text: String| serde_json::from_str::<Value>(&text).unwrap()["results"].clone();
    assert_eq!(results(play("copied")), results(play("whole")));
    for adapter in ["full_fine_tuning = {}", "lora = { rank = 2, alpha = 2.0, dropout = 0.0 }"] {
        let sets =
            ["policy={ pretrained = { path = \"copied\" } }".to_owned(), format!("adapter={{ {adapter} }}")];
        bench.succeed(&["train", "config.toml", "--set", &sets[0], "--set", &sets[1], "--out", adapter]);
    }
}

mod each_is_trained_resumed_to_the_same_bits_played_and_fine_tuned {
    use super::*;

    test_rows! {
        row: l2m_of_numbers = (
            "bins = 8\n",
            "Pendulum-v1",
            &[("n_positions", 12.into()), ("action_bins", 8.into()), ("global_pos_embds", false.into())],
        ),
        lram_of_numbers = (
            "bins = 8\ndiscrete_actions = 3\nglobal_positions = true\n",
            "Pendulum-v1",
            &[("n_positions", 9.into()), ("action_bins", 11.into()), ("global_pos_embds", true.into())],
        ),
        l2m_of_ids = ("bins = 8\ndiscrete_actions = 2\n", "CartPole-v1", &[("vocabulary", 10.into())]),
        lram_of_ids = ("bins = 8\ndiscrete_actions = 4\n", "CartPole-v1", &[("vocabulary", 12.into())]),
    }
}

#[track_caller]
fn check_refused(bench: &Bench, arguments: &[&str], sentence: &str) {
    let output = bench.run(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.lines().last().unwrap_or_default().contains(sentence), "{said}");
}

#[test]
fn what_does_not_fit_is_refused_in_a_sentence() {
    let bench = bench("l2m", "bins = 8\n", "Pendulum-v1");
    for (set, sentence) in [
        ("policy.new_l2m.tokens=[\"state\"]", "unknown key `policy.new_l2m.tokens`; [policy.new_l2m] has"),
        ("policy.new_l2m.action_head={ continuous = {} }", "unknown key `policy.new_l2m.action_head`"),
        ("policy.new_l2m.bins=1", "`policy.new_l2m.bins`: expected a whole number from 2 to 65536, found 1"),
        ("policy.new_l2m.bins=", "missing key `policy.new_l2m.bins`"),
        ("policy.new_l2m.heads=3", "`policy.new_l2m.heads` is 3, and must divide policy.new_l2m.hidden_size"),
        ("policy.new_lram.bins=8", "`policy` holds both `new_l2m` and `new_lram`"),
        (
            "adapter={ lora = { rank = 2, alpha = 2.0, dropout = 0.0 } }",
            "a new policy has nothing to adapt: use [adapter.full_fine_tuning]",
        ),
    ] {
        check_refused(&bench, &["train", "config.toml", "--set", set, "--out", "none"], sentence);
    }
    bench.succeed(&["train", "config.toml", "--out", "run"]);
    let elsewhere = ["evaluate", "run", "--env", "MountainCarContinuous-v0", "--episodes", "1"];
    let sentence = "`state_dim` is 2, expected 3, the numbers that `state_mean` normalises";
    check_refused(&bench, &elsewhere, sentence);
}

#[test]
fn discrete_actions_need_ids() {
    let bench = bench("lram", "bins = 8\ndiscrete_actions = 1\n", "CartPole-v1");
    let sentence = "`act_dim` is 2, expected at most 1 discrete actions";
    check_refused(&bench, &["train", "config.toml", "--out", "none"], sentence);
    assert!(!bench.path("none").exists());
}
