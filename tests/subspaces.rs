//! `subspaces`: how a run's adapters moved, against the checkpoints' own tensors.

use serde_json::Value;
use tch::{Kind, Tensor};

use crate::support::Bench;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn a_run_s_updates_and_turns_are_those_of_its_checkpoints() {
    let bench = Bench::with_policy();
    bench.succeed(&["train", "adapt.toml", "--out", "run", "--set", "checkpoint.every=20"]);
    let said = bench.succeed(&["subspaces", "run", "--episodes", "2", "--json"]);
    let found: Value = serde_json::from_str(&said).unwrap();
    let moments = found["checkpoints"].as_array().unwrap();
    let updates: Vec<u64> = moments.iter().map(|moment| moment["updates"].as_u64().unwrap()).collect();
    assert_eq!(updates, [0, 20, 40]);

    let load = |update: &str| {
        let file = bench.path("run/checkpoints").join(update).join("adapter/adapter_model.safetensors");
        Tensor::read_safetensors(file).unwrap()
    };
    let (before, after) = (load("00000000"), load("00000040"));
    let modules = moments[2]["modules"].as_object().unwrap();
    assert!(!modules.is_empty());
    for (module, measured) in modules {
        let part = |state: &[(String, Tensor)], part: &str| {
            let name = format!("base_model.model.{module}.{part}.weight");
            let (_, tensor) = state.iter().find(|(known, _)| *known == name).unwrap();
            tensor.to_kind(Kind::Double)
        };
        let (down, up) = (part(&after, "lora_A"), part(&after, "lora_B"));
        let rank = down.size()[0] as f64;
        let update = up.matmul(&down); // alpha is the rank, and EVA keeps the scale
        let norm = update.norm().double_value(&[]);
        assert!(
            (number(&measured["norm"]) / norm - 1.0).abs() < 1e-5,
            "{module}: {measured}, expected {norm}"
        );
        let effective = number(&measured["effective_rank"]);
        assert!(effective > 0.99 && effective <= rank + 1e-4, "{module}: {effective}");
        // EVA's A is orthonormal at the start, so the mean squared cosine to its span is that of projections.
        let first = part(&before, "lora_A");
        let (basis, _) = Tensor::linalg_qr(&down.tr(), "reduced"); // [in, R]
        let cosines = first.matmul(&basis).square().sum(Kind::Double).double_value(&[]) / rank;
        let turn = (1.0 - cosines).sqrt().asin().to_degrees();
        assert!(turn > 0.01, "{module} has not moved");
        assert!((number(&measured["turn"]) - turn).abs() < 1e-3, "{module}: {measured}, expected {turn}");
        for share in ["in_data", "in_rollouts"] {
            assert!((0.0..=1.0).contains(&number(&measured[share])), "{module}: {measured}");
        }
        let start = &moments[0]["modules"][module];
        assert_eq!((number(&start["norm"]), number(&start["effective_rank"])), (0.0, 0.0), "{module}");
        assert!(number(&start["turn"]) < 1e-4, "{module}: {start}");
    }
    // EVA's rows are directions of the data, so what is trained on them stays near.
    let share = |module: &Value| number(&module["in_data"]);
    let early: Vec<f64> = moments[1]["modules"].as_object().unwrap().values().map(share).collect();
    assert!(early.iter().sum::<f64>() / early.len() as f64 > 0.5, "{early:?}");
    for (module, share) in found["gradient_within_a"].as_object().unwrap() {
        assert!((0.0..=1.0).contains(&number(share)), "{module}: {share}");
    }
    let lines = std::fs::read_to_string(bench.path("run/subspaces/metrics.jsonl")).unwrap();
    assert_eq!(lines.matches("\"adapter/turn/mean\"").count(), 3);

    let again = bench.run(&["subspaces", "run"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists"), "{again:?}");
}

#[test]
fn runs_that_cannot_be_looked_at_are_refused_in_a_sentence() {
    let bench = Bench::with_policy();
    let whole = bench.run(&["subspaces", "pretrained"]);
    assert_eq!(whole.status.code(), Some(2));
    let said = String::from_utf8_lossy(&whole.stderr).into_owned();
    assert!(said.contains("trains without adapters (full fine-tuning)"), "{said}");

    bench.succeed(&["train", "adapt.toml", "--out", "kept", "--set", "checkpoint.keep=1"]);
    let kept = bench.run(&["subspaces", "kept"]);
    assert_eq!(kept.status.code(), Some(2));
    let said = String::from_utf8_lossy(&kept.stderr).into_owned();
    assert!(said.contains("has no checkpoint of update 0"), "{said}");
    assert!(!bench.path("kept/subspaces").exists());
}
