//! Runs on several ranks, which `mpirun` starts; for a program with the feature `mpi`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use eva_rl_agents::tensor::file::TensorFile;
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::online::algorithms;
use crate::support::Bench;

/// The launcher of `make mpi`, or the system's.
fn mpirun() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".mpi/bin/mpirun");
    if own.exists() { own } else { PathBuf::from("mpirun") }
}

/// The program on so many ranks of this machine.
fn command(bench: &Bench, ranks: usize, arguments: &[&str]) -> Command {
    let alone = bench.command(arguments);
    let mut command = Command::new(mpirun());
    command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", &ranks.to_string()]);
    command.arg(alone.get_program()).args(alone.get_args());
    alone.get_current_dir().map(|folder| command.current_dir(folder));
    alone.get_envs().filter_map(|(name, value)| Some((name, value?))).for_each(|(name, value)| {
        command.env(name, value);
    });
    command
}

fn run(bench: &Bench, ranks: usize, arguments: &[&str]) -> Output {
    command(bench, ranks, arguments).output().unwrap()
}

#[track_caller]
fn succeed(bench: &Bench, ranks: usize, arguments: &[&str]) -> String {
    if ranks == 1 {
        return bench.succeed(arguments);
    }
    let output = run(bench, ranks, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The adapter's tensors of a checkpoint.
fn adapter(bench: &Bench, run: &str, updates: usize) -> Vec<(String, Tensor)> {
    let path = bench.path(run).join(format!("checkpoints/{updates:08}/adapter/adapter_model.safetensors"));
    TensorFile::open(&path).unwrap().read_all().unwrap().into_iter().collect()
}

/// How far two adapters lie apart, over the size of the first.
fn difference(one: &[(String, Tensor)], other: &[(String, Tensor)]) -> f64 {
    assert_eq!(one.len(), other.len());
    let squares = |x: &Tensor| x.square().sum(Kind::Double).double_value(&[]);
    let apart: f64 = one.iter().zip(other).map(|((_, one), (_, other))| squares(&(one - other))).sum();
    (apart / one.iter().map(|(_, x)| squares(x)).sum::<f64>()).sqrt()
}

/// Sets what a run of so many offline updates and no others needs.
fn offline(updates: usize) -> Vec<String> {
    [format!("offline.updates={updates}"), "evaluation.every=1000".into(), "checkpoint.every=1000".into()]
        .into()
}

#[track_caller]
fn train(bench: &Bench, ranks: usize, config: &str, out: &str, settings: &[String]) {
    let mut arguments = vec!["train", config, "--out", out];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    succeed(bench, ranks, &arguments);
}

/// A bench whose `offline.toml` adapts without online rounds.
fn bench() -> Bench {
    let bench = Bench::with_policy();
    let text = fs::read_to_string(bench.path("adapt.toml")).unwrap();
    let (before, rest) = text.split_once("[online.odt]").unwrap();
    let (_, after) = rest.split_once("[env]").unwrap();
    bench.write("offline.toml", &format!("{before}[env]{after}"));
    bench
}

#[test]
fn offline_updates_give_the_same_weights_on_any_number_of_ranks() {
    let bench = bench();
    // EVA's search, dropout in blocks and adapters, Online DT's loss and its temperature.
    for ranks in [1, 2, 3, 4] {
        train(&bench, ranks, "offline.toml", &format!("on{ranks}"), &offline(100));
    }
    train(&bench, 3, "offline.toml", "again", &offline(100));
    let one = adapter(&bench, "on1", 100);
    for ranks in [2, 3, 4] {
        let found = difference(&one, &adapter(&bench, &format!("on{ranks}"), 100));
        assert!(found < 1e-5, "{ranks} ranks: {found}");
    }
    assert_eq!(difference(&adapter(&bench, "on3", 100), &adapter(&bench, "again", 100)), 0.0);
    // One has written.
    let events = fs::read_dir(bench.path("on3")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(events.filter(|name| name.to_string_lossy().starts_with("events.")).count(), 1);
    let loss = |run: &str| {
        let text = fs::read_to_string(bench.path(run).join("metrics.jsonl")).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let last = lines.iter().rfind(|line| line["tag"] == "train/loss").unwrap();
        last["value"].as_f64().unwrap()
    };
    assert!((loss("on1") - loss("on4")).abs() < 1e-5, "{} and {}", loss("on1"), loss("on4"));
}

#[test]
fn episodes_are_the_same_on_any_number_of_ranks() {
    let bench = bench();
    let evaluate = |ranks: usize| {
        let arguments =
            ["evaluate", "policy", "--env", "Pendulum-v1", "--episodes", "7", "--num-envs", "4", "--json"];
        let found: Value = serde_json::from_str(&succeed(&bench, ranks, &arguments)).unwrap();
        found["results"][0]["mean_return"].as_f64().unwrap()
    };
    let one = evaluate(1);
    for ranks in [2, 3] {
        assert!(
            (evaluate(ranks) - one).abs() < 1e-3 * one.abs(),
            "{ranks} ranks: {} and {one}",
            evaluate(ranks)
        );
    }
    // Of a controller's episodes every bit.
    let collect = |ranks: usize| {
        let out = format!("collected{ranks}");
        let arguments = [
            "collect",
            "--env",
            "Pendulum-v1",
            "--policy",
            "scripted",
            "--noise",
            "0.3",
            "--episodes",
            "5",
            "--out",
            &out,
        ];
        succeed(&bench, ranks, &arguments);
        fs::read(bench.path(&out).join("data/main_data.hdf5")).unwrap()
    };
    assert!(collect(1) == collect(3), "the datasets differ");
}

#[test]
fn a_run_on_ranks_explores_resumes_on_another_number_of_them_and_ends_like_one() {
    let bench = bench();
    let settings = ["checkpoint.every=20".to_owned()];
    train(&bench, 1, "adapt.toml", "one", &settings);
    train(&bench, 3, "adapt.toml", "three", &settings);
    // What a kill after update 20 leaves, in the first round.
    fs::remove_file(bench.path("three/README.md")).unwrap();
    fs::remove_dir_all(bench.path("three/checkpoints/00000040")).unwrap();
    succeed(&bench, 2, &["train", "--resume", "three"]);
    let found = difference(&adapter(&bench, "one", 40), &adapter(&bench, "three", 40));
    assert!(found < 1e-3, "{found}");
    let evaluations = |run: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(bench.path(run).join("evaluation.json")).unwrap()).unwrap()
    };
    let (one, three) = (evaluations("one"), evaluations("three"));
    assert_eq!(one.as_array().unwrap().len(), three.as_array().unwrap().len());
    let env_steps = |run: &Value| run.as_array().unwrap().last().unwrap()["env_steps"].clone();
    assert_eq!(env_steps(&one), env_steps(&three));
}

#[test]
fn every_algorithm_trains_on_three_ranks_as_on_one() {
    let bench = bench();
    let offline = fs::read_to_string(bench.path("offline.toml")).unwrap();
    for (name, table) in algorithms() {
        bench.write(&format!("{name}.toml"), &format!("{offline}{table}"));
        let num_envs = if name == "grpo" { 4 } else { 3 }; // whole groups, and an episode for each rank
        for ranks in [1, 3] {
            let settings = [format!("env.num_envs={num_envs}")];
            train(&bench, ranks, &format!("{name}.toml"), &format!("{name}{ranks}"), &settings);
        }
        // The adapters, and what else is trained or kept: critics, the target policy, moments, episodes.
        let end = |ranks: usize| -> Vec<(String, Tensor)> {
            let run = bench.path(&format!("{name}{ranks}"));
            let folders = fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
            let state = TensorFile::open(&folders.max().unwrap().join("training_state.safetensors")).unwrap();
            state.read_all().unwrap().into_iter().filter(|(_, x)| x.kind() == Kind::Float).collect()
        };
        let (one, three) = (end(1), end(3));
        let parts: &[&str] = if name == "td3_odt" { &["", "critic.", "target_policy."] } else { &[""] };
        for part in parts {
            let of = |state: &[(String, Tensor)]| -> Vec<(String, Tensor)> {
                let own = state.iter().filter(|(name, _)| name.starts_with(part));
                own.map(|(name, x)| (name.clone(), x.shallow_clone())).collect()
            };
            assert!(!of(&one).is_empty());
            let found = difference(&of(&one), &of(&three));
            assert!(found < 1e-5, "{name}, {part}: {found}");
        }
    }
}

#[test]
fn sharded_replays_go_on_from_a_checkpoint_on_any_number_of_ranks() {
    let bench = bench();
    let settings = ["checkpoint.every=10", "env.num_envs=3", "ranks.replay=\"sharded\""].map(str::to_owned);
    train(&bench, 2, "adapt.toml", "whole", &settings);
    let replay = |run: &str| {
        let path = bench.path(run).join("checkpoints/00000040/training_state.safetensors");
        let all = TensorFile::open(&path).unwrap().read_all().unwrap();
        (Vec::<i64>::try_from(&all["replay.shards"]).unwrap(), all["replay.rewards"].copy())
    };
    let (shards, rewards) = replay("whole");
    assert_eq!(shards, [3, 2]); // of five
    // No episode is in two shards; all have 200 steps.
    let episodes: Vec<Vec<f32>> = rewards.view([5, 200]).try_into().unwrap();
    for (number, episode) in episodes.iter().enumerate() {
        assert!(!episodes[..number].contains(episode), "episode {number} is held twice");
    }
    for (ranks, out) in [(2, "again"), (3, "three"), (1, "one")] {
        let from = bench.path("whole").canonicalize().unwrap();
        assert!(Command::new("cp").arg("-r").arg(from).arg(bench.path(out)).status().unwrap().success());
        fs::remove_file(bench.path(out).join("README.md")).unwrap();
        for later in ["checkpoints/00000030", "checkpoints/00000040"] {
            fs::remove_dir_all(bench.path(out).join(later)).unwrap();
        }
        succeed(&bench, ranks, &["train", "--resume", out]);
    }
    assert_eq!(difference(&adapter(&bench, "whole", 40), &adapter(&bench, "again", 40)), 0.0);
    assert_eq!(replay("whole"), replay("again"));
    assert_eq!(replay("three").0, [2, 2, 1]);
    // Ranks of which each has its own episodes train otherwise than one that has all.
    train(&bench, 1, "adapt.toml", "alone", &settings);
    let found = difference(&adapter(&bench, "alone", 40), &adapter(&bench, "whole", 40));
    assert!(found > 1e-3, "{found}");
    // Offline updates are the same, because every rank reads all of the data.
    let found = difference(&adapter(&bench, "alone", 10), &adapter(&bench, "whole", 10));
    assert!(found < 1e-5, "{found}");
    let arguments = ["train", "adapt.toml", "--out", "none", "--set", "ranks.replay=\"sharded\""];
    let said = String::from_utf8_lossy(&run(&bench, 3, &arguments).stderr).into_owned();
    assert!(
        said.contains("`env.num_envs` is 2, and 3 ranks train on their own episodes of a round"),
        "{said}"
    );
}

#[test]
fn wrong_input_is_one_rank_s_sentence() {
    let bench = bench();
    let arguments = ["train", "offline.toml", "--out", "none", "--set", "optimiser.batch_size=2"];
    let output = run(&bench, 3, &arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let sentence = "`optimiser.batch_size` is 2, and 3 ranks share it, expected at least one window for each";
    assert_eq!(said.matches(sentence).count(), 1, "{said}");
    assert!(said.contains("eva-rl: rank 0 on "), "{said}");
    assert!(!bench.path("none").exists());
}

#[test]
fn a_launcher_of_another_mpi_is_refused() {
    let bench = bench();
    let mut command = bench.command(&["inspect", "policy"]);
    let output = command.env("OMPI_COMM_WORLD_SIZE", "3").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("a launcher has started 3 processes, and MPI knows of 1"), "{said}");
}

/// Starts a long run on two ranks, and waits until it has saved `checkpoint`.
fn start(bench: &Bench, out: &str, settings: &[&str], checkpoint: &str) -> Child {
    let mut arguments = vec!["train", "offline.toml", "--out", out, "--set", "offline.updates=100000"];
    arguments.extend(["--set", "evaluation.every=100000"]);
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    let child = command(bench, 2, &arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !bench.path(out).join("checkpoints").join(checkpoint).exists() {
        assert!(begun.elapsed() < Duration::from_secs(120), "there was no checkpoint in two minutes");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

/// The ranks of the run in `folder`, by their processes' numbers.
fn processes(bench: &Bench) -> Vec<String> {
    let folder = bench.path(".").canonicalize().unwrap();
    let own = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.ok()?.path();
        let program = fs::read_link(path.join("exe")).ok()?;
        let inside = fs::read_link(path.join("cwd")).ok()? == folder
            && program.file_name()?.to_string_lossy().starts_with("eva-rl");
        inside.then(|| path.file_name().unwrap().to_string_lossy().into_owned())
    });
    own.collect()
}

#[track_caller]
fn wait(child: Child, limit: Duration) -> (Output, Duration) {
    let begun = Instant::now();
    let output = child.wait_with_output().unwrap();
    let took = begun.elapsed();
    assert!(took < limit, "it took {took:?}");
    (output, took)
}

#[test]
fn a_rank_that_dies_ends_all_and_the_run_goes_on_from_its_checkpoint() {
    let bench = bench();
    let child = start(&bench, "killed", &["checkpoint.every=10"], "00000020");
    let ranks = processes(&bench);
    assert_eq!(ranks.len(), 2);
    assert!(Command::new("kill").args(["-9", &ranks[1]]).status().unwrap().success());
    wait(child, Duration::from_secs(10));
    assert!(processes(&bench).is_empty());
    let latest = fs::read_dir(bench.path("killed/checkpoints")).unwrap().count() * 10;
    let to = format!("offline.updates={}", latest + 30);
    succeed(&bench, 1, &["train", "--resume", "killed", "--set", &to]);
    train(
        &bench,
        2,
        "offline.toml",
        "whole",
        &[to, "evaluation.every=100000".into(), "checkpoint.every=10".into()],
    );
    let found = difference(&adapter(&bench, "whole", latest + 20), &adapter(&bench, "killed", latest + 20));
    assert!(found < 1e-5, "{found}");
}

#[test]
fn a_rank_that_hangs_is_not_waited_for_longer_than_the_config_says() {
    let bench = bench();
    let settings = ["checkpoint.every=10", "ranks.timeout_secs=5"];
    let child = start(&bench, "hung", &settings, "00000010");
    let ranks = processes(&bench);
    assert!(Command::new("kill").args(["-STOP", &ranks[1]]).status().unwrap().success());
    let (output, _) = wait(child, Duration::from_secs(30));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("another rank has not answered within 5 s (ranks.timeout_secs)"), "{said}");
    assert!(!output.status.success());
    assert!(processes(&bench).is_empty());
}

#[test]
fn a_scheduler_s_signal_saves_a_checkpoint_first() {
    let bench = bench();
    let child = start(&bench, "stopped", &["checkpoint.every=100000"], "00000000");
    std::thread::sleep(Duration::from_secs(2));
    for rank in processes(&bench) {
        assert!(Command::new("kill").args(["-TERM", &rank]).status().unwrap().success());
    }
    let (output, _) = wait(child, Duration::from_secs(10));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("stopped by SIGTERM at update"), "{said}");
    assert_eq!(said.matches("stopped by").count(), 1, "{said}");
    assert_eq!(fs::read_dir(bench.path("stopped/checkpoints")).unwrap().count(), 2);
    assert!(processes(&bench).is_empty());
}

#[test]
fn a_sweep_gives_its_runs_to_ranks_as_they_become_free() {
    let bench = bench();
    bench.write("sweep.toml", "configs = [\"offline.toml\"]\nseeds = [1, 2, 3]\n");
    let arguments = ["sweep", "sweep.toml", "--out", "swept", "--json"];
    for outcome in ["done", "skipped"] {
        let runs: Value = serde_json::from_str(&succeed(&bench, 2, &arguments)).unwrap();
        let runs = runs.as_array().unwrap();
        assert_eq!(runs.len(), 3);
        for run in runs {
            assert_eq!(run["outcome"], outcome, "{run}");
            assert!(bench.path(run["folder"].as_str().unwrap()).join("README.md").exists());
        }
    }
    assert!(!bench.path("swept/.claims").exists());
}

#[test]
fn what_ranks_do_not_share_the_first_does_alone() {
    let bench = bench();
    let found: Value = serde_json::from_str(&succeed(&bench, 2, &["inspect", "policy", "--json"])).unwrap();
    assert_eq!(found["kind"], "policy");
    let eva = |ranks: usize| {
        let out = format!("eva{ranks}");
        succeed(&bench, ranks, &["eva", "policy", "--data", "data", "--rank", "2", "--out", &out]);
        let path = bench.path(&out).join("adapter_model.safetensors");
        TensorFile::open(&path).unwrap().read_all().unwrap().into_iter().collect::<Vec<_>>()
    };
    let found = difference(&eva(1), &eva(3));
    assert!(found < 1e-4, "{found}");
}
