//! Every way to begin: it trains, goes on from a checkpoint to the same bits, and exports a plain adapter.

use std::fs;

use serde_json::Value;

use crate::support::Bench;

const LORA: &str = "{ rank = 2, alpha = 2.0, dropout = 0.1 }";

/// The values of `adapter` that configs may have, `{}` standing for the lora table.
pub const METHODS: [(&str, &str); 14] = [
    ("lora", "{ lora = {} }"),
    ("pissa", "{ pissa = {} }"),
    ("milora", "{ milora = {} }"),
    ("olora", "{ olora = {} }"),
    ("corda-ipm", "{ corda = { batches = 2, mode = \"ipm\", lora = {} } }"),
    ("corda-kpm", "{ corda = { batches = 2, mode = \"kpm\", lora = {} } }"),
    ("lora-ga", "{ lora_ga = { batches = 2, gamma = 16.0, lora = {} } }"),
    ("lora-one", "{ lora_one = { batches = 2, gamma = 128.0, lora = {} } }"),
    ("ipa", "{ ipa = { batches = 2, frozen = false, lora = {} } }"),
    ("ipa-frozen", "{ ipa = { batches = 2, frozen = true, lora = {} } }"),
    (
        "adalora",
        "{ adalora = { target_rank = 1, tinit = 8, tfinal = 8, delta_t = 2, beta1 = 0.85, beta2 = 0.85, orth_reg_weight = 0.5, lora = {} } }",
    ),
    (
        "eva-rotated",
        "{ eva = { rho = 2.0, tau = 0.99, max_batches = 9, components = \"rotated\", lora = {} } }",
    ),
    (
        "eva-minor",
        "{ eva = { rho = 1.0, tau = 0.99, max_batches = 9, components = \"minor\", solver = \"gram\", lora = {} } }",
    ),
    (
        "eva-peft",
        "{ eva = { rho = 2.0, tau = 0.99, max_batches = 9, solver = \"incremental\", stop = \"component_cosine\", whiten = true, allocation = \"l1_norm\", tokens = [\"state\"], lora = {} } }",
    ),
];

/// Trains, goes back to the first checkpoint, goes on, and compares.
#[track_caller]
fn check(bench: &Bench, name: &str, adapter: &str) {
    let adapter = format!("adapter={adapter}");
    bench.succeed(&["train", "adapt.toml", "--out", name, "--set", &adapter]);
    let last = bench.path(name).join("checkpoints/00000040");
    let read = |file: &str| fs::read(last.join(file)).unwrap();
    let files = ["adapter/adapter_model.safetensors", "training_state.safetensors"];
    let before = files.map(read);
    let mut kept: Vec<_> = fs::read_dir(bench.path(name).join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    kept.sort();
    assert!(kept.len() > 1, "{name} kept one checkpoint");
    kept.drain(1..).for_each(|folder| fs::remove_dir_all(folder).unwrap());
    bench.succeed(&["train", "--resume", name]);
    for (file, before) in files.iter().zip(before) {
        assert!(read(file) == before, "{name}: {file} differs after going on");
    }
    let adapter = format!("{name}/best/adapter");
    let found: Value = serde_json::from_str(&bench.succeed(&["inspect", &adapter, "--json"])).unwrap();
    assert_eq!(found["kind"], "adapter", "{name}");
    let evaluate = ["evaluate", "policy", "--adapter", &adapter, "--env", "Pendulum-v1", "--episodes", "1"];
    bench.succeed(&evaluate);
}

#[test]
fn every_method_trains_and_goes_on_to_the_same_bits() {
    let bench = Bench::with_policy();
    for (name, adapter) in METHODS {
        check(&bench, name, &adapter.replace("{}", LORA));
    }
}

#[test]
fn dora_rslora_lora_plus_and_the_head_alone_train_and_go_on_too() {
    let bench = Bench::with_policy();
    let text = fs::read_to_string(bench.path("adapt.toml")).unwrap();
    bench.write("adapt.toml", &text.replace("weight_decay", "lora_plus_ratio = 4.0\nweight_decay"));
    let lora = "{ rank = 2, alpha = 2.0, dropout = 0.1, dora = true, rslora = true }";
    check(&bench, "pissa-dora", &format!("{{ pissa = {lora} }}"));
    check(&bench, "head", "{ head_only = {} }");
}

#[test]
fn eva_leaves_its_summary_beside_the_run() {
    let bench = Bench::with_policy();
    bench.succeed(&["train", "adapt.toml", "--out", "run"]);
    let map: Value = serde_json::from_str(&fs::read_to_string(bench.path("run/eva.json")).unwrap()).unwrap();
    let ranks: i64 = map["sites"].as_array().unwrap().iter().map(|site| site["rank"].as_i64().unwrap()).sum();
    assert_eq!(ranks, 8);
    assert!(fs::read_to_string(bench.path("run/eva.svg")).unwrap().contains("encoder.h.0.attn.c_attn"));
}

#[track_caller]
fn check_refused(adapter: &str, words: &[&str]) {
    let bench = Bench::with_policy();
    let output = bench.run(&["train", "adapt.toml", "--out", "run", "--set", &format!("adapter={adapter}")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    words.iter().for_each(|word| assert!(said.contains(word), "{said} does not say {word}"));
    assert!(!bench.path("run").exists());
}

#[test]
fn a_rank_that_a_map_is_too_small_for_is_refused() {
    let lora = "{ rank = 20, alpha = 2.0, dropout = 0.0 }";
    check_refused(&format!("{{ pissa = {lora} }}"), &["PiSSA", "20", "16", "encoder.h.0.attn.c_attn"]);
    let lora = "{ rank = 9, alpha = 2.0, dropout = 0.0 }";
    check_refused(
        &format!("{{ lora_ga = {{ batches = 1, gamma = 16.0, lora = {lora} }} }}"),
        &["18 components", "16"],
    );
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let eva = |extra: &str| {
        format!("{{ eva = {{ rho = 1.0, tau = 0.9, max_batches = 3, lora = {LORA}, {extra} }} }}")
    };
    check_refused(&eva("solver = \"incremental\""), &["adapter.eva.stop", "incremental", "component_cosine"]);
    check_refused(&eva("solver = \"sketch\", components = \"minor\""), &["minor", "gram"]);
    let adalora = "{ adalora = { target_rank = 1, tinit = 30, tfinal = 30, delta_t = 2, beta1 = 0.85, beta2 = 0.85, orth_reg_weight = 0.5, lora = {} } }";
    check_refused(&adalora.replace("{}", LORA), &["tinit + tfinal", "60"]);
}
