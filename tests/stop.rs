//! Runs that are killed or interrupted, and go on as if nothing had happened.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

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
    wait_for(bench, &format!("{run}/{name}"));
    child
}

#[track_caller]
fn wait_for(bench: &Bench, name: &str) {
    let begun = Instant::now();
    while !bench.path(name).exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "there was no {name} in a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether this process, and so what it starts, ignores a signal.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << (signal - 1)) != 0
}

fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
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

/// `evaluation.json` is for readers: checkpoints have the evaluations too.
#[test]
fn a_run_whose_evaluations_are_torn_goes_on_to_the_same() {
    let bench = Bench::with_policy();
    let given = ["train", "adapt.toml", "--out"];
    bench.succeed(&[&given[..], &["whole"]].concat());
    let whole = fs::read_to_string(bench.path("whole/evaluation.json")).unwrap();
    for (run, torn) in
        [("empty", ""), ("torn", &whole[..40]), ("hollow", r#"[{"updates": 0, "targets": []}]"#)]
    {
        bench.succeed(&[&given[..], &[run]].concat());
        fs::remove_dir_all(bench.path(&format!("{run}/checkpoints/00000040"))).unwrap();
        fs::write(bench.path(&format!("{run}/evaluation.json")), torn).unwrap();
        let told = bench.run(&["report", run]);
        assert_eq!(told.status.code(), Some(2), "{}", String::from_utf8_lossy(&told.stderr));
        bench.succeed(&["train", "--resume", run]);
        assert_eq!(
            fs::read_to_string(bench.path(&format!("{run}/evaluation.json"))).unwrap(),
            whole,
            "{run}"
        );
    }
}

/// A policy that full fine-tuning saved may be torn too: the checkpoint before it serves, and the torn one is put
/// aside, also where one was before.
#[test]
fn a_torn_policy_makes_a_torn_checkpoint() {
    let bench = Bench::with_policy();
    let given = ["train", "adapt.toml", "--set", "adapter={ full_fine_tuning = {} }", "--out"];
    bench.succeed(&[&given[..], &["whole"]].concat());
    bench.succeed(&[&given[..], &["torn"]].concat());
    for _ in 0..2 {
        let weights = bench.path("torn/checkpoints/00000040/policy/model.safetensors");
        let bytes = fs::read(&weights).unwrap();
        fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
        bench.succeed(&["train", "--resume", "torn"]);
        assert_eq!(fs::read(&weights).unwrap(), bytes);
    }
    assert!(bench.path("torn/checkpoints/00000040.torn2").is_dir());
}

#[test]
fn a_killed_run_goes_on_to_the_same_weights() {
    check_killed(&[]);
}

#[test]
fn a_killed_run_that_folds_its_adapters_and_steps_by_lamb_goes_on_to_the_same_weights() {
    check_killed(&["adapter.eva.lora.dropout=0.0", "optimiser.batch_size=64", "optimiser.algorithm=lamb"]);
}

/// What a run that has ended by `signal` said; a panic or an exit code is neither.
#[track_caller]
fn ended_by(signal: i32, child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.signal(), Some(signal), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// The weights, the state and the evaluations at the end of both runs are the same, and so are their numbers.
#[track_caller]
fn check_same(bench: &Bench, one: &str, other: &str, end: usize) {
    for name in ["adapter/adapter_model.safetensors", "training_state.safetensors"] {
        let read =
            |run: &str| fs::read(bench.path(run).join(format!("checkpoints/{end:08}/{name}"))).unwrap();
        assert!(read(one) == read(other), "{name} differs");
    }
    let evaluations = |run: &str| fs::read_to_string(bench.path(run).join("evaluation.json")).unwrap();
    assert_eq!(evaluations(one), evaluations(other));
    let state = |run: &str, update: usize| {
        let path = bench.path(run).join(format!("checkpoints/{update:08}/state.json"));
        let mut state: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        state["elapsed_secs"] = Value::Null;
        state
    };
    for update in [0, end] {
        assert_eq!(state(one, update), state(other, update), "at update {update}");
    }
}

#[test]
fn each_signal_ends_a_run_with_a_checkpoint_and_by_that_signal() {
    let bench = Bench::with_policy();
    let long = ["online.odt.exploration.rounds=60"]; // it must not end before the signal comes
    bench.succeed(&arguments("whole", &long));
    for (name, signal) in [("INT", 2), ("TERM", 15), ("HUP", 1)] {
        if is_ignored(signal) {
            continue; // the tests run under nohup, which the program respects
        }
        let child = start(&bench, name, &long, "checkpoints/00000005/state.json");
        send(name, &child);
        let said = ended_by(signal, child);
        let stopped = said.lines().last().unwrap();
        let (before, after) = stopped.split_once(" at update ").unwrap();
        assert_eq!(before, format!("eva-rl: stopped by SIG{name}"));
        let update: usize = after.split_whitespace().next().unwrap().parse().unwrap();
        assert!(bench.path(&format!("{name}/checkpoints/{update:08}/state.json")).is_file(), "{said}");
        assert!(stopped.ends_with(&format!("resume with: eva-rl train --resume \"{name}\"")), "{said}");
        bench.succeed(&["train", "--resume", name]);
        check_same(&bench, "whole", name, 610);
    }
}

#[test]
fn a_long_evaluation_is_abandoned_and_made_when_the_run_is_resumed() {
    let bench = Bench::with_policy();
    let short = [
        "online.odt.exploration={ rounds = 1, updates_per_round = 1, target_return = -200.0 }",
        "evaluation.episodes=200",
        "evaluation.every=1000",
    ];
    bench.succeed(&arguments("whole", &short));
    let child = start(&bench, "run", &short, "eva.json");
    std::thread::sleep(Duration::from_millis(50));
    send("TERM", &child);
    let said = ended_by(15, child);
    assert!(said.contains("at update 0 of 11, which is saved"), "{said}");
    assert!(
        !bench.path("run/evaluation.json").exists(),
        "the evaluation was over before it could be abandoned"
    );
    bench.succeed(&["train", "--resume", "run"]);
    check_same(&bench, "whole", "run", 11);
}

#[test]
fn a_long_exploration_is_abandoned_and_made_when_the_run_is_resumed() {
    let bench = Bench::with_policy();
    let many = [
        "online.odt.exploration.rounds=1",
        "online.odt.replay_capacity=400",
        "env.num_envs=400",
        "evaluation.every=1000",
    ];
    bench.succeed(&arguments("whole", &many));
    let child = start(&bench, "run", &many, "checkpoints/00000010/state.json");
    send("TERM", &child);
    let said = ended_by(15, child);
    assert!(said.contains("at update 10 of 20, which is saved"), "{said}");
    bench.succeed(&["train", "--resume", "run"]);
    check_same(&bench, "whole", "run", 20);
}

#[test]
fn a_run_stopped_before_its_first_update_says_so_and_begins_when_it_is_resumed() {
    let bench = Bench::with_policy();
    // Half a million batches, none of which turns the components little enough.
    let long = ["adapter.eva.stop=component_cosine", "adapter.eva.tau=1.0", "adapter.eva.max_batches=500000"];
    let child = start(&bench, "run", &long, ".lock");
    std::thread::sleep(Duration::from_millis(300));
    send("INT", &child);
    let said = ended_by(2, child);
    assert!(said.contains("nothing was trained yet") && said.contains("--resume \"run\""), "{said}");
    assert_eq!(fs::read_dir(bench.path("run/checkpoints")).unwrap().count(), 0);
    let config = fs::read_to_string(bench.path("run/config.toml")).unwrap();
    bench.write("run/config.toml", &config.replace("max_batches = 500000", "max_batches = 5"));
    bench.succeed(&["train", "--resume", "run"]);
    assert!(bench.path("run/README.md").is_file());
}

#[test]
fn a_second_signal_ends_a_run_without_a_panic_and_two_at_once_are_one() {
    let bench = Bench::with_policy();
    for pause in [0, 400] {
        let run = format!("run{pause}");
        let child = start(&bench, &run, &[], "checkpoints/00000005/state.json");
        send("INT", &child);
        std::thread::sleep(Duration::from_millis(pause));
        send("INT", &child);
        let said = ended_by(2, child);
        assert!(said.contains("which is saved"), "{said}");
    }
}

#[test]
fn a_run_that_ignores_hangups_goes_on_without_its_terminal() {
    let bench = Bench::with_policy();
    let given = bench.command(&arguments("run", &[]));
    let mut nohup = Command::new("sh");
    nohup.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(given.get_program()).args(given.get_args());
    nohup.current_dir(bench.path("")).stderr(Stdio::piped()).stdout(Stdio::piped());
    let child = nohup.spawn().unwrap();
    wait_for(&bench, "run/checkpoints/00000000/state.json");
    send("HUP", &child);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_run_has_one_writer_at_a_time() {
    let bench = Bench::with_policy();
    let mut child = start(&bench, "run", &[], "checkpoints/00000000/state.json");
    let output = bench.run(&["train", "--resume", "run"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("process {} is writing the run \"run\"", child.id())), "{said}");
    child.kill().unwrap();
    child.wait().unwrap();
    fs::create_dir(bench.path("run/checkpoints/.00000099.0.tmp")).unwrap(); // as a kill leaves one
    bench.succeed(&["train", "--resume", "run"]);
    assert!(!bench.path("run/checkpoints/.00000099.0.tmp").exists());
}

#[test]
fn a_closed_pipe_ends_the_program_in_silence() {
    let bench = Bench::with_policy();
    let piped = |arguments: &[&str]| {
        let mut child =
            bench.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        child.wait_with_output().unwrap()
    };
    for arguments in [&["inspect", "policy", "--json"][..], &["envs"], &["inspect", "policy"]] {
        let output = piped(arguments);
        assert_eq!(output.status.signal(), Some(13), "{arguments:?}");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let output = piped(&["--help"]);
    assert!(output.stderr.is_empty() && output.status.code() != Some(101), "{output:?}");

    // Nor does a run end for want of a reader of its messages.
    let mut child = bench.command(&["train", "adapt.toml", "--out", "run"]);
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
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
