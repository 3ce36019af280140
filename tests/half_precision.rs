//! Policies whose files keep their weights in 16 bits.

use std::fs;

use eva_rl_agents::model::{self, Given};
use eva_rl_agents::tensor::file::TensorFile;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::foundation::{bench, json};
use crate::support::{Bench, copy_folder, shipped, test_rows};

/// Writes the same policy twice: in bfloat16 as `half`, and the same numbers in f32 as `wide`.
fn round_weights(bench: &Bench, family: &str) {
    let (own, half, wide) = (bench.path(family), bench.path("half"), bench.path("wide"));
    let file = TensorFile::find(&own, "model", "pytorch_model").unwrap();
    let rounded: Vec<(String, Tensor)> = file
        .names()
        .map(|name| {
            let tensor = file.read(name).unwrap().contiguous();
            let is_floating = tensor.kind() == Kind::Float;
            (name.to_owned(), if is_floating { tensor.to_kind(Kind::BFloat16) } else { tensor })
        })
        .collect();
    let widened = rounded.iter().map(|(name, tensor)| match tensor.kind() {
        Kind::BFloat16 => (name.clone(), tensor.to_kind(Kind::Float)),
        _ => (name.clone(), tensor.shallow_clone()),
    });
    for (folder, tensors) in [(half, &rounded), (wide, &widened.collect())] {
        copy_folder(&own, &folder);
        let _ = fs::remove_file(folder.join("model.pth"));
        let tensors: Vec<(&str, &Tensor)> =
            tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        Tensor::write_safetensors(&tensors, folder.join("model.safetensors")).unwrap();
    }
}

/// Whether two numbers, or arrays and tables of such, differ by rounding alone; policies' names aside.
fn check_close(one: &Value, other: &Value) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            one.iter()
                .filter(|(key, _)| *key != "policy")
                .for_each(|(key, one)| check_close(one, &other[key]));
        }
        (Value::Array(one), Value::Array(other)) => {
            assert_eq!(one.len(), other.len());
            one.iter().zip(other).for_each(|(one, other)| check_close(one, other));
        }
        (Value::Number(one), Value::Number(other)) => {
            let [one, other] = [one, other].map(|number| number.as_f64().unwrap());
            assert!((one - other).abs() <= 1e-3 * (1.0 + other.abs()), "{one} and {other}");
        }
        _ => assert_eq!(one, other),
    }
}

/// Plays a policy and an adapter of it, in Hopper, from the one folder and the other.
fn check_half(family: &str, rest: &[&str]) {
    let bench = bench();
    copy_folder(&shipped("hopper-medium"), &bench.path("decision_transformer"));
    round_weights(&bench, family);
    let play = |folder: &str, adapter: &[&str]| {
        let arguments =
            ["evaluate", folder, "--env", "Hopper-v5", "--episodes", "2", "--num-envs", "2", "--json"];
        json(&bench.succeed(&[&arguments[..], rest, adapter].concat()))["results"].clone()
    };
    check_close(&play("half", &[]), &play("wide", &[]));
    // An adapter knows its policy by the numbers, not by the bits that hold them.
    let task = if family == "vintix" { ", task = \"Hopper-v4\"" } else { "" };
    let policy = format!("policy={{ pretrained = {{ path = \"wide\"{task} }} }}");
    let short =
        ["--set", "offline.updates=2", "--set", "evaluation.every=2", "--set", "evaluation.episodes=2"];
    let target: &[&str] =
        if rest.contains(&"--target-return") { &["--set", "env.target_return=100"] } else { &[] };
    bench
        .succeed(&[&["train", "config.toml", "--out", "run", "--set", &policy][..], &short, target].concat());
    let adapter = ["--adapter", "run/best/adapter"];
    check_close(&play("half", &adapter), &play("wide", &adapter));
}

mod each_family_plays_alike_from_16_bits {
    use super::*;

    test_rows! {
        check_half: vintix = &["--task", "Hopper-v4"],
        jat = &[],
        l2m = &["--target-return", "100"],
        lram = &["--target-return", "100"],
        decision_transformer = &["--target-return", "100"],
    }
}

#[test]
fn matrices_stay_in_16_bits_where_nothing_trains_them() {
    let bench = bench();
    for family in ["vintix", "jat", "l2m", "lram"] {
        round_weights(&bench, family);
        for compact in [true, false] {
            let task = (family == "vintix").then_some("Hopper-v4");
            let given = Given { compact, task, ..Given::default() };
            let policy = model::read(&bench.path("half"), given, Device::Cpu).unwrap();
            for (name, tensor) in policy.weights() {
                let stays = compact && tensor.dim() == 2 && name.ends_with(".weight");
                let wanted = if stays { Kind::BFloat16 } else { Kind::Float };
                assert_eq!(tensor.kind(), wanted, "{family}: {name}");
            }
        }
        for folder in ["half", "wide"] {
            fs::remove_dir_all(bench.path(folder)).unwrap();
        }
    }
}
