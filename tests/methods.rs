//! Every method of adapter initialisation: it trains, resumes from a checkpoint to the same bits, and exports a plain
//! adapter.

use std::fs;

use serde_json::Value;

use crate::support::Bench;

const LORA: &str = "{ rank = 2, alpha = 2.0, dropout = 0.1 }";

/// A test per method: `check(name, the value of adapter, LORA standing for the lora table)`.
macro_rules! test_each_method {
    ($check:ident) => {
        crate::support::test_rows! {
            $check:
            lora = "{ lora = LORA }",
            orthogonal = "{ orthogonal = LORA }",
            pissa = "{ pissa = LORA }",
            milora = "{ milora = LORA }",
            olora = "{ olora = LORA }",
            corda_ipm = "{ corda = { batches = 2, mode = \"ipm\", lora = LORA } }",
            corda_kpm = "{ corda = { batches = 2, mode = \"kpm\", lora = LORA } }",
            lora_ga = "{ lora_ga = { batches = 2, gamma = 16.0, lora = LORA } }",
            lora_one = "{ lora_one = { batches = 2, gamma = 128.0, lora = LORA } }",
            ipa = "{ ipa = { batches = 2, frozen = false, lora = LORA } }",
            ipa_frozen = "{ ipa = { batches = 2, frozen = true, lora = LORA } }",
            adalora = "{ adalora = { target_rank = 1, tinit = 8, tfinal = 8, delta_t = 2, beta1 = 0.85, beta2 = 0.85, orth_reg_weight = 0.5, lora = LORA } }",
            eva_rotated = "{ eva = { rho = 2.0, tau = 0.99, max_batches = 9, components = \"rotated\", lora = LORA } }",
            eva_minor = "{ eva = { rho = 1.0, tau = 0.99, max_batches = 9, components = \"minor\", solver = \"gram\", lora = LORA } }",
            eva_peft = "{ eva = { rho = 2.0, tau = 0.99, max_batches = 9, solver = \"incremental\", stop = \"component_cosine\", whiten = true, allocation = \"l1_norm\", tokens = [\"state\"], lora = LORA } }",
            head_only = "{ head_only = {} }",
        }
    };
}
pub(crate) use test_each_method;

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
    // What is exported is what was trained: merged by the program it acts as the run's best does.
    bench.succeed(&["merge", "policy", "--adapter", &adapter, "--out", "merged"]);
    let mean_return = |what: &[&str]| {
        let fixed = ["--env", "Pendulum-v1", "--episodes", "1", "--json"];
        let found: Value =
            serde_json::from_str(&bench.succeed(&[&["evaluate"], what, &fixed].concat())).unwrap();
        found["results"][0]["mean_return"].as_f64().unwrap()
    };
    let [best, merged] = [mean_return(&[&format!("{name}/best")]), mean_return(&["merged"])];
    assert!((best - merged).abs() < 1e-3 * best.abs(), "{name}: {best} of the best, {merged} merged");
}

mod every_method_trains_and_resumes_to_the_same_bits {
    use super::*;

    fn row(name: &str, adapter: &str) {
        check(&Bench::with_policy(), name, &adapter.replace("LORA", LORA));
    }

    test_each_method!(row);
}

#[test]
fn dora_rslora_and_lora_plus_train_and_resume_too() {
    let bench = Bench::with_policy();
    let text = fs::read_to_string(bench.path("adapt.toml")).unwrap();
    bench.write("adapt.toml", &text.replace("weight_decay", "lora_plus_ratio = 4.0\nweight_decay"));
    let lora = "{ rank = 2, alpha = 2.0, dropout = 0.1, dora = true, rslora = true }";
    check(&bench, "pissa-dora", &format!("{{ pissa = {lora} }}"));
}

#[test]
fn eva_leaves_its_summary_beside_the_run() {
    let bench = Bench::with_policy();
    bench.succeed(&["train", "adapt.toml", "--out", "run"]);
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(bench.path("run/eva.json")).unwrap()).unwrap();
    let ranks: i64 =
        summary["sites"].as_array().unwrap().iter().map(|site| site["rank"].as_i64().unwrap()).sum();
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
fn a_rank_that_a_module_is_too_small_for_is_refused() {
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
    let adalora = "{ adalora = { target_rank = 1, tinit = 30, tfinal = 30, delta_t = 2, beta1 = 0.85, beta2 = 0.85, orth_reg_weight = 0.5, lora = LORA } }";
    check_refused(&adalora.replace("LORA", LORA), &["tinit + tfinal", "60"]);
}
