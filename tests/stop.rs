//! Runs that are killed or interrupted, and go on as if nothing had happened.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Bench;

/// A run of twelve rounds, changed by `settings`.
fn arguments<'a>(run: &'a str, settings: &[&'a str]) -> Vec<&'a str> {
    let mut arguments =
        vec!["train", "adapt.toml", "--out", run, "--set", "online.odt.exploration.rounds=12"];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    arguments
}

/// Starts such a run and waits until it has written `name`.
fn start(bench: &Bench, run: &str, settings: &[&str], name: &str) -> Child {
    let arguments = arguments(run, settings);
    let child = bench.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !bench.path(run).join(name).exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{run} wrote no {name} in a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[track_caller]
fn check_killed(settings: &[&str]) {
    let bench = Bench::with_policy();
    bench.succeed(&arguments("whole", settings));
    let mut child = start(&bench, "killed", settings, "checkpoints/00000025/state.json");
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    assert!(!bench.path("killed/README.md").exists(), "the run was over before it could be killed");
    bench.succeed(&["train", "--resume", "killed"]);
    for name in ["adapter/adapter_model.safetensors", "training_state.safetensors"] {
        let read = |run: &str| fs::read(bench.path(run).join("checkpoints/00000130").join(name)).unwrap();
        assert!(read("whole") == read("killed"), "{name} differs");
    }
    let evaluations = |run: &str| fs::read_to_string(bench.path(run).join("evaluation.json")).unwrap();
    assert_eq!(evaluations("whole"), evaluations("killed"));
    assert_eq!(losses(&bench, "whole"), losses(&bench, "killed"));
}

/// What a run says of its losses: their updates and values.
fn losses(bench: &Bench, run: &str) -> Vec<(u64, f64)> {
    let text = fs::read_to_string(bench.path(run).join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let losses = lines.filter(|line| line["tag"] == "train/loss");
    losses.map(|line| (line["step"].as_u64().unwrap(), line["value"].as_f64().unwrap())).collect()
}

#[test]
fn a_loss_is_the_mean_since_the_last_record_however_often_the_run_was_stopped_in_between() {
    let bench = Bench::with_policy();
    let given = ["train", "adapt.toml", "--set", "checkpoint.every=1", "--out"];
    bench.succeed(&[&given[..], &["whole"]].concat());
    bench.succeed(&[&given[..], &["stopped"]].concat());
    // As if stopped after updates 3, 7 and 25, each time for good.
    for update in [25, 7, 3] {
        for later in update + 1..=40 {
            let _ = fs::remove_dir_all(bench.path(&format!("stopped/checkpoints/{later:08}")));
        }
        bench.succeed(&["train", "--resume", "stopped"]);
        assert_eq!(losses(&bench, "whole"), losses(&bench, "stopped"));
    }
}

#[test]
fn a_killed_run_goes_on_to_the_same_weights() {
    check_killed(&[]);
}

#[test]
fn a_killed_run_that_folds_its_adapters_and_steps_by_lamb_goes_on_to_the_same_weights() {
    check_killed(&["adapter.eva.lora.dropout=0.0", "optimiser.batch_size=64", "optimiser.rule={lamb={}}"]);
}

#[test]
fn an_interrupted_run_leaves_a_checkpoint_and_says_how_to_go_on() {
    let bench = Bench::with_policy();
    let child = start(&bench, "run", &[], "checkpoints/00000005/state.json");
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let stopped = said.lines().find(|line| line.contains("stopped at update")).unwrap();
    let update: usize = stopped.split_whitespace().nth(4).unwrap().parse().unwrap();
    assert!(bench.path(&format!("run/checkpoints/{update:08}/state.json")).is_file(), "{said}");
    assert!(said.contains("--resume \"run\""), "{said}");
    bench.succeed(&["train", "--resume", "run"]);
    assert!(bench.path("run/README.md").is_file());
}

#[test]
fn a_finished_run_that_is_resumed_stays_as_it_is() {
    let bench = Bench::with_policy();
    bench.succeed(&["train", "adapt.toml", "--out", "run"]);
    let evaluations = fs::read(bench.path("run/evaluation.json")).unwrap();
    bench.succeed(&["train", "adapt.toml", "--resume", "run"]);
    assert_eq!(fs::read(bench.path("run/evaluation.json")).unwrap(), evaluations);
}

#[test]
fn a_finished_run_that_is_prolonged_ends_with_the_bits_of_a_longer_one() {
    let bench = Bench::with_policy();
    let offline = ["--set", "online=", "--set", "checkpoint.every=20", "--set"];
    let train = |run: &'static str, updates: &'static str| {
        bench.succeed(&[&["train", "adapt.toml", "--out", run][..], &offline, &[updates]].concat());
    };
    train("whole", "offline.updates=40");
    train("short", "offline.updates=20");
    bench.succeed(&["train", "--resume", "short", "--set", "offline.updates=40"]);
    for name in [
        "config.toml",
        "evaluation.json",
        "checkpoints/00000040/training_state.safetensors",
        "best/adapter/adapter_model.safetensors",
    ] {
        let read = |run: &str| fs::read(bench.path(run).join(name)).unwrap();
        assert!(read("whole") == read("short"), "{name} differs");
    }
    assert!(bench.path("short/README.md").is_file());

    // Rounds of exploration too, and the same by a config that says more.
    bench.succeed(&["train", "adapt.toml", "--out", "rounds"]);
    let more = "online.odt.exploration.rounds=5";
    bench.succeed(&["train", "adapt.toml", "--out", "rounds-whole", "--set", more]);
    bench.succeed(&[
        "train",
        "adapt.toml",
        "--resume",
        "rounds",
        "--set",
        more,
        "--set",
        "checkpoint.keep=3",
    ]);
    let read = |run: &str| {
        fs::read(bench.path(run).join("checkpoints/00000060/training_state.safetensors")).unwrap()
    };
    assert!(read("rounds-whole") == read("rounds"));
}

#[test]
fn what_would_have_changed_a_run_s_past_is_refused() {
    let bench = Bench::with_policy();
    bench.succeed(&["train", "adapt.toml", "--out", "run"]);
    let config = fs::read(bench.path("run/config.toml")).unwrap();
    for (set, told) in [
        ("optimiser.learning_rate=1.0", "`optimiser.learning_rate` is 0.001 there and 1.0 here"),
        ("seed=5", "`seed` is 4 there and 5 here"),
        (
            "offline.updates=50",
            "`offline.updates` is 10 there and 50 here, and 3 rounds of exploration came after them",
        ),
        (
            "online.odt.exploration.rounds=2",
            "`online.odt.exploration.rounds` is 3 there and 2 here, and 3 rounds are done",
        ),
        ("online=", "`online` is `odt` there and absent here"),
        ("evaluation.episodes=3", "`evaluation.episodes` is 2 there and 3 here"),
        (
            "adapter={ lora = { rank = 2, alpha = 2.0, dropout = 0.0 } }",
            "`adapter` is `eva` there and `lora` here",
        ),
    ] {
        let output = bench.run(&["train", "--resume", "run", "--set", set]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.trim_end(), format!("eva-rl: \"run\" cannot go on with another config: {told}"));
    }
    assert_eq!(fs::read(bench.path("run/config.toml")).unwrap(), config);
    assert!(bench.path("run/README.md").is_file());
}

#[test]
fn a_run_killed_before_its_first_checkpoint_starts_again() {
    let bench = Bench::with_policy();
    bench.succeed(&["train", "adapt.toml", "--out", "whole"]);
    bench.succeed(&["train", "adapt.toml", "--out", "killed"]);
    // What a kill during the first evaluation and the change of `best` leaves behind.
    fs::remove_dir_all(bench.path("killed/checkpoints")).unwrap();
    fs::create_dir(bench.path("killed/checkpoints")).unwrap();
    fs::rename(bench.path("killed/best"), bench.path("killed/.best.old")).unwrap();
    bench.succeed(&["train", "--resume", "killed"]);
    let read = |run: &str, name: &str| fs::read(bench.path(run).join(name)).unwrap();
    for name in ["best/adapter/adapter_model.safetensors", "evaluation.json"] {
        assert!(read("whole", name) == read("killed", name), "{name} differs");
    }
    let lines = |run: &str| String::from_utf8(read(run, "metrics.jsonl")).unwrap().lines().count();
    assert_eq!(lines("whole"), lines("killed"));
    assert!(!bench.path("killed/.best.old").exists());
}

#[test]
fn a_run_whose_numbers_cease_to_be_finite_says_where_and_changes_nothing() {
    let bench = Bench::with_policy();
    let rate = ["--set", "optimiser.learning_rate=1e30", "--set", "optimiser.gradient_clip=1e30"];
    let output = bench.run(&[&["train", "adapt.toml", "--out", "run"][..], &rate].concat());
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = said.lines().last().unwrap();
    for part in ["update ", "seed 4", "encoder.h.0.", "not finite", "the last checkpoint in \"run\" is whole"]
    {
        assert!(last.contains(part), "{last} lacks {part}");
    }
    bench.succeed(&["inspect", "run"]);
    assert!(bench.path("run/checkpoints/00000000/state.json").is_file());
}

#[test]
fn a_run_ends_early_where_nothing_gets_better_and_keeps_its_latest_checkpoints() {
    let bench = Bench::with_policy();
    let given =
        ["--set", "evaluation.every=5", "--set", "evaluation.patience=2", "--set", "checkpoint.keep=2"];
    // A rate this small changes no action, so the first evaluation stays the best.
    let still = ["--set", "optimiser.learning_rate=1e-30"];
    bench.succeed(&[&["train", "adapt.toml", "--out", "run"][..], &given, &still].concat());
    let evaluations = fs::read_to_string(bench.path("run/evaluation.json")).unwrap();
    assert_eq!(evaluations.matches("\"updates\"").count(), 3, "{evaluations}");
    let mut kept: Vec<String> = fs::read_dir(bench.path("run/checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, ["00000005", "00000010"]);
    bench.succeed(&["train", "--resume", "run"]);
    assert_eq!(fs::read_to_string(bench.path("run/evaluation.json")).unwrap(), evaluations);
}

#[test]
fn a_torn_checkpoint_is_named_and_costs_nothing_but_itself() {
    let bench = Bench::with_policy();
    bench.succeed(&["train", "adapt.toml", "--out", "whole"]);
    for (run, name) in [("state", "state.json"), ("tensors", "training_state.safetensors")] {
        bench.succeed(&["train", "adapt.toml", "--out", run]);
        let torn = bench.path(run).join("checkpoints/00000040").join(name);
        let bytes = fs::read(&torn).unwrap();
        fs::write(&torn, &bytes[..bytes.len() / 2]).unwrap();
        let output = bench.run(&["train", "--resume", run]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        for part in [name, "checkpoints/00000040\" is put aside", "going on from update 35 of 40"] {
            assert!(said.contains(part), "{said} lacks {part}");
        }
        let read = |run: &str| {
            fs::read(bench.path(run).join("checkpoints/00000040/training_state.safetensors")).unwrap()
        };
        assert!(read("whole") == read(run));
    }
}
