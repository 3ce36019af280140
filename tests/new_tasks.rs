//! Tasks that a policy of many tasks does not know, and demonstrations before what it plays.

use std::fs;

use eva_rl_agents::tensor::file::TensorFile;
use serde_json::Value;

use crate::foundation::{CONFIG, ENDS, bench, check_refused, json};
use crate::support::Bench;

/// A run of `vintix` on a task that it does not know, of another width.
const NEW_TASK: [&str; 8] = [
    "--set",
    "policy.pretrained.task='Pendulum-v1'",
    "--set",
    "policy.pretrained.new_task={ group = 'pendulum' }",
    "--set",
    "env.id='Pendulum-v1'",
    "--set",
    "data.datasets=['pendulum']",
];

fn with_pendulum() -> Bench {
    let bench = bench();
    let collect = ["collect", "--env", "Pendulum-v1", "--policy", "scripted", "--noise", "0.3"];
    bench.succeed(&[&collect[..], &["--episodes", "4", "--out", "pendulum"]].concat());
    bench
}

#[test]
fn a_new_embodiment_has_an_encoder_and_a_head_of_its_own_on_the_frozen_trunk() {
    let bench = with_pendulum();
    let train = [&["config.toml"], &NEW_TASK[..]].concat();
    bench.check_resume(&train, &["00000020"], &ENDS);

    // The new parts are PEFT's modules to save, beside adapters of the trunk; the others are untouched.
    let adapter = bench.path("whole/checkpoints/00000020/adapter");
    let config = json(&fs::read_to_string(adapter.join("adapter_config.json")).unwrap());
    let saved: Vec<&str> =
        config["modules_to_save"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(saved.iter().all(|name| name.contains(".pendulum.")), "{saved:?}");
    for part in
        ["obs_encoders.pendulum.layers.0", "acs_encoders.pendulum.layers.5", "acs_decoders.pendulum.layers.6"]
    {
        assert!(saved.iter().any(|name| name.ends_with(part)), "{part}: {saved:?}");
    }
    let file = TensorFile::open(&adapter.join("adapter_model.safetensors")).unwrap();
    assert!(file.names().any(|name| name.contains("transformer.blocks.1.mlp.proj.lora_A")));

    // Their task's statistics are the data's, and lie beside the adapter.
    let data = json(&bench.succeed(&["inspect", "pendulum", "--json"]));
    let tasks = json(&fs::read_to_string(adapter.join("metadata.json")).unwrap());
    let singles = |list: &Value| -> Vec<f32> {
        list.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
    };
    assert_eq!(singles(&tasks["Pendulum-v1"]["obs_mean"]), singles(&data["observation_mean"]));

    // It learns, and what was saved plays alike: the run, the adapter on its policy, and both merged.
    let losses = json(&fs::read_to_string(bench.path("whole/evaluation.json")).unwrap());
    let loss = |row: usize| losses[row]["validation_loss"].as_f64().unwrap();
    assert!(loss(1) < 0.9 * loss(0), "{losses}");
    let play = |policy: &[&str]| {
        let rest = ["--env", "Pendulum-v1", "--episodes", "2", "--num-envs", "2", "--json"];
        json(&bench.succeed(&[&["evaluate"], policy, &rest[..]].concat()))["results"].clone()
    };
    let of_run = play(&["whole/checkpoints/00000020"]);
    let path = adapter.to_str().unwrap();
    assert_eq!(play(&["vintix", "--adapter", path]), of_run);
    bench.succeed(&["merge", "vintix", "--adapter", path, "--out", "merged"]);
    assert_eq!(play(&["merged", "--task", "Pendulum-v1"]), of_run);
    let known = json(&bench.succeed(&["inspect", "merged", "--json"]));
    assert_eq!(known["tasks"].as_array().unwrap().len(), 4);
    // The tasks that it had play as they did, but for the adapters of the trunk.
    bench.succeed(&["evaluate", "merged", "--task", "Hopper-v4", "--env", "Hopper-v5", "--episodes", "1"]);
}

#[test]
fn a_new_task_that_cannot_be_is_refused() {
    let bench = with_pendulum();
    let train = |sets: &[&str], sentence: &str| {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let arguments = [&["train", "config.toml", "--out", "none"], &NEW_TASK[..], &sets[..]].concat();
        check_refused(&bench, &arguments, sentence);
    };
    train(
        &["policy.pretrained.task='Hopper-v4'"],
        "`task` is \"Hopper-v4\", expected the name of no task of the policy",
    );
    train(
        &["policy.pretrained.new_task={ group = 'hopper_v4' }"],
        "`Pendulum-v1.group_name` is \"hopper_v4\"",
    );
    train(&["policy.pretrained.path='jat'"], "`new_task` is \"Pendulum-v1\", expected none");
    train(&["policy.pretrained.statistics='data'"], "a new task has those of the data");
    bench.write("unnamed.toml", &CONFIG.replace("task = \"Hopper-v4\"", "new_task = { group = \"a\" }"));
    check_refused(&bench, &["train", "unnamed.toml", "--out", "none"], "the new task's name is missing");
    let collect =
        ["collect", "--env", "CartPole-v1", "--policy", "random", "--episodes", "4", "--out", "discrete"];
    bench.succeed(&collect);
    train(&["data.datasets=['discrete']", "env.id='CartPole-v1'"], "has discrete actions in the data");
}

#[test]
fn demonstrations_may_come_before_what_vintix_plays() {
    let bench = bench();
    let play = |rest: &[&str]| {
        let arguments = ["evaluate", "vintix", "--task", "Hopper-v4", "--env", "Hopper-v5", "--json"];
        let found = bench.succeed(&[&arguments[..], &["--episodes", "2", "--num-envs", "2"], rest].concat());
        json(&found)["results"][0]["mean_return"].clone()
    };
    // Its context has 12 steps, and episodes of random play have more.
    let refused = ["evaluate", "vintix", "--task", "Hopper-v4", "--env", "Hopper-v5"];
    check_refused(
        &bench,
        &[&refused[..], &["--prompt", "data"]].concat(),
        "expected less than the 12 of the",
    );
    // A torso that may not fall by two centimetres ends an episode after seven steps.
    let upright = "healthy_z_range=[1.235,1.27]";
    let short = ["--env-kwarg", upright, "--policy", "random", "--episodes", "1", "--out", "short"];
    bench.succeed(&[&["collect", "--env", "Hopper-v5"], &short[..]].concat());
    let alone = play(&[]);
    for inference in ["window", "reference"] {
        let prompted = play(&["--prompt", "short", "--inference", inference]);
        assert_ne!(prompted, alone, "{inference}");
        assert_eq!(play(&["--prompt", "short", "--inference", inference]), prompted);
    }
    let cached = [&refused[..], &["--prompt", "short", "--inference", "cached"]].concat();
    check_refused(&bench, &cached, "expected window or reference");
    check_refused(
        &bench,
        &["evaluate", "jat", "--env", "Hopper-v5", "--prompt", "short"],
        "the policy looks at one episode alone",
    );
}
