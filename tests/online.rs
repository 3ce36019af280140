//! Every algorithm of `[online]`, with adapters and without, on continuous and discrete actions.

use std::fs;

use crate::methods::test_each_method;
use crate::support::{Bench, PRETRAIN, test_rows};

const EXPLORATION: &str = "exploration = { rounds = 2, updates_per_round = 6, target_return = -200.0 }";

/// `[online]` tables by the algorithm's name.
pub fn algorithms() -> [(&'static str, String); 4] {
    [
        ("odt", format!("[online.odt]\nreplay_capacity = 5\n{EXPLORATION}\n")),
        (
            "td3_odt",
            format!(
                "[online.td3_odt]\nreplay_capacity = 5\nnoise = 0.1\nrl_weight = 0.5\ncritic_warmup = 2\ndiscount = 0.99\nlambda = 0.5\ncritic_width = 16\ncritic_learning_rate = 1e-3\npolyak = 0.05\ntarget_noise = 0.2\ntarget_noise_clip = 0.5\npolicy_delay = 2\n{EXPLORATION}\n"
            ),
        ),
        ("grpo", format!("[online.grpo]\ngroup_size = 2\ndiscount = 0.95\nclip = 0.2\n{EXPLORATION}\n")),
        ("filtered_bc", format!("[online.filtered_bc]\nreplay_capacity = 3\nnoise = 0.1\n{EXPLORATION}\n")),
    ]
}

/// `text` without the tables that begin with `header`.
fn without(text: &str, header: &str) -> String {
    let mut kept = String::new();
    let mut skipping = false;
    for line in text.lines() {
        if line.starts_with('[') {
            skipping = line.starts_with(header);
        }
        if !skipping {
            kept += line;
            kept += "\n";
        }
    }
    kept
}

/// The weights that a run ends with, and all that its last checkpoint holds.
fn ends(bench: &Bench, run: &str, trained: &str) -> [Vec<u8>; 2] {
    let folders = fs::read_dir(bench.path(run).join("checkpoints")).unwrap();
    let last = folders.map(|entry| entry.unwrap().path()).max().unwrap();
    [trained, "training_state.safetensors"].map(|name| fs::read(last.join(name)).unwrap())
}

/// Runs `config`, and again with a kill after some of its checkpoints; both must end alike.
#[track_caller]
fn check(bench: &Bench, name: &str, config: &str, trained: &str) {
    let file = format!("{name}.toml");
    bench.write(&file, config);
    let whole = format!("{name}-whole");
    bench.succeed(&["train", &file, "--out", &whole]);
    let metrics = fs::read_to_string(bench.path(&whole).join("metrics.jsonl")).unwrap();
    assert!(metrics.contains("rollout/ep_rew_mean"), "{name} explored nothing");

    // What a kill in the second round leaves: the checkpoints up to there.
    let killed = format!("{name}-killed");
    bench.succeed(&["train", &file, "--out", &killed]);
    for entry in fs::read_dir(bench.path(&killed).join("checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        let updates: usize = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        if updates > 15 {
            fs::remove_dir_all(path).unwrap();
        }
    }
    bench.succeed(&["train", "--resume", &killed]);
    assert!(ends(bench, &whole, trained) == ends(bench, &killed, trained), "{name} ends otherwise");
}

/// The `[online]` table of an algorithm.
fn table(algorithm: &str) -> String {
    let found = algorithms().into_iter().find(|(name, _)| *name == algorithm);
    found.expect("it is one of the algorithms").1
}

/// A test per algorithm.
macro_rules! test_each_algorithm {
    ($check:ident) => {
        test_rows! { $check: odt = (), td3_odt = (), grpo = (), filtered_bc = (), }
    };
}

mod every_algorithm_trains_adapters_and_resumes_within_a_round {
    use super::*;

    fn row(name: &str, (): ()) {
        let bench = Bench::with_policy();
        let adapt = without(&fs::read_to_string(bench.path("adapt.toml")).unwrap(), "[online");
        check(&bench, name, &format!("{adapt}{}", table(name)), "adapter/adapter_model.safetensors");
    }

    test_each_algorithm!(row);
}

/// Trains an adapter online; Online DT and filtered cloning step on the run's loss, as `methods` tests it.
#[track_caller]
fn check_moves(algorithm: &str, method: &str, adapter: &str) {
    let bench = Bench::with_policy();
    let adapt = without(&fs::read_to_string(bench.path("adapt.toml")).unwrap(), "[online");
    bench.write("config.toml", &format!("{adapt}{}", table(algorithm)));
    let lora = "{ rank = 2, alpha = 2.0, dropout = 0.0 }";
    let adapter = format!("adapter={}", adapter.replace("LORA", lora));
    // Rows enough for fused products; AdaLoRA's schedule wants 16 updates.
    let sets = [&adapter, "optimiser.batch_size=128", "checkpoint.every=11"].map(|set| ["--set", set]);
    bench.succeed(&[&["train", "config.toml", "--out", "run"], sets.as_flattened()].concat());
    let weights = |updates: &str| {
        let folder = bench.path("run/checkpoints").join(updates);
        fs::read(folder.join("adapter/adapter_model.safetensors")).unwrap()
    };
    assert!(weights("00000011") != weights("00000022"), "{method} moved nothing online");
}

mod every_adapter_trains_by_td3_s_gradient {
    use super::*;

    fn row(name: &str, adapter: &str) {
        check_moves("td3_odt", name, adapter);
    }

    test_each_method!(row);
    test_rows! { row: dora = "{ lora = { rank = 2, alpha = 2.0, dropout = 0.0, dora = true } }", }
}

mod every_adapter_trains_by_grpo {
    use super::*;

    fn row(name: &str, adapter: &str) {
        check_moves("grpo", name, adapter);
    }

    test_each_method!(row);
    test_rows! { row: dora = "{ lora = { rank = 2, alpha = 2.0, dropout = 0.0, dora = true } }", }
}

#[test]
fn deviations_start_at_the_residuals_or_where_they_are_told_to() {
    let bench = Bench::with_policy();
    let adapt = without(&fs::read_to_string(bench.path("adapt.toml")).unwrap(), "[online");
    bench.write("offline.toml", &adapt);
    // Of the metric's first record: its update and what it was.
    let first_std = |run: &str| {
        let metrics = fs::read_to_string(bench.path(run).join("metrics.jsonl")).unwrap();
        let line = metrics.lines().find(|line| line.contains("train/action_std")).expect("it is recorded");
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        (line["step"].as_u64().unwrap(), line["value"].as_f64().unwrap())
    };
    let found = |run: &str| {
        let output = bench.run(&["train", "offline.toml", "--out", run]);
        assert_eq!(output.status.code(), Some(0));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = said.lines().find(|line| line.contains("initial std")).expect("it is printed").to_owned();
        let (update, std) = first_std(run);
        assert_eq!(update, 0);
        assert!(line.ends_with(&format!(" {std:.3}")), "{line}, {std}");
        std
    };
    assert_eq!(found("once"), found("again"));

    let told = ["train", "offline.toml", "--out", "told", "--set", "loss.online_dt.initial_std=0.2"];
    let output = bench.run(&told);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("initial std"));
    let (update, std) = first_std("told");
    assert!(update == 10 && (std - 0.2).abs() < 0.02, "{std} at {update}");
    let wide = ["train", "offline.toml", "--out", "wide", "--set", "loss.online_dt.initial_std=2.0"];
    let output = bench.run(&wide);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("`loss.online_dt.initial_std`: expected a number in [0.01, 0.95], found 2.0"),
        "{said}"
    );
}

mod every_algorithm_trains_a_whole_policy_of_discrete_actions {
    use super::*;

    fn row(name: &str, (): ()) {
        let bench = Bench::new();
        let collect =
            ["collect", "--env", "CartPole-v1", "--policy", "random", "--episodes", "6", "--out", "data"];
        bench.succeed(&collect);
        let loss = "[loss.online_dt]\ninitial_std = 0.3\ninitial_temperature = 0.1\ntemperature_learning_rate = 1e-3\n";
        let config = without(PRETRAIN, "[loss").replace("Pendulum-v1", "CartPole-v1") + loss;
        let config = config.replace("updates = 20", "updates = 10");
        let config = config.replacen("[checkpoint]\nevery = 20", "[checkpoint]\nevery = 5", 1);
        check(&bench, name, &format!("{config}{}", table(name)), "policy/model.safetensors");
    }

    test_each_algorithm!(row);
}

#[test]
fn algorithms_that_draw_refuse_a_loss_without_a_distribution() {
    let bench = Bench::with_policy();
    let adapt = without(&fs::read_to_string(bench.path("adapt.toml")).unwrap(), "[online");
    let adapt = without(&adapt, "[loss") + "[loss.behaviour_cloning]\n";
    for (name, table) in algorithms() {
        bench.write("config.toml", &format!("{adapt}{table}"));
        let output = bench.run(&["train", "config.toml", "--out", name]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let draws = matches!(name, "odt" | "grpo");
        assert_eq!(output.status.code(), Some(if draws { 2 } else { 0 }), "{name}: {said}");
        assert_eq!(said.contains("explores with [loss.online_dt]"), draws, "{name}: {said}");
    }
}
