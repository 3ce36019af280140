//! A grid of runs.

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Bench;

const GRID: &str = r#"
configs = ["adapt.toml"]
seeds = [1, 2]
[[axes]]
choices = { lora = ["adapter={ lora = { rank = 2, alpha = 2.0, dropout = 0.0 } }"], eva = [] }
[[axes]]
choices = { short = ["offline.updates=2", "online.odt.exploration.rounds=1"] }
"#;

#[test]
fn a_grid_runs_every_cell_and_skips_what_is_done() {
    let bench = Bench::with_policy();
    bench.write("grid.toml", GRID);
    let sweep = ["sweep", "grid.toml", "--out", "runs", "--jobs", "2"];
    let listed = bench.succeed(&[&sweep[..], &["--dry-run"]].concat());
    assert_eq!(listed.lines().count(), 4);
    assert!(listed.contains("adapt-lora-short-seed2: adapt.toml adapter="), "{listed}");
    let listed = json(&bench.succeed(&[&sweep[..], &["--dry-run", "--json"]].concat()));
    assert_eq!(listed[3]["name"], "adapt-lora-short-seed2");
    assert_eq!(listed[3]["folder"], "runs/adapt-lora-short-seed2");
    assert_eq!(listed[3]["overrides"][3], "seed=2");

    // A run that was stopped, and one that is finished.
    let stopped = ["train", "adapt.toml", "--out", "runs/adapt-eva-short-seed1", "--set", "seed=1"];
    bench.succeed(
        &[&stopped[..], &["--set", "offline.updates=2", "--set", "online.odt.exploration.rounds=1"]].concat(),
    );
    fs::remove_file(bench.path("runs/adapt-eva-short-seed1/README.md")).unwrap();
    assert!(bench.succeed(&sweep).contains("4 runs done, 0 were done before"));
    assert!(
        fs::read_to_string(bench.path("runs/adapt-eva-short-seed1.log"))
            .unwrap()
            .contains("going on from update")
    );
    let begun =
        fs::metadata(bench.path("runs/adapt-lora-short-seed1/README.md")).unwrap().modified().unwrap();
    assert!(bench.succeed(&sweep).contains("0 runs done, 4 were done before"));
    let skipped = json(&bench.succeed(&[&sweep[..], &["--json"]].concat()));
    assert!(skipped.as_array().unwrap().iter().all(|run| run["outcome"] == "skipped"), "{skipped}");
    assert_eq!(
        fs::metadata(bench.path("runs/adapt-lora-short-seed1/README.md")).unwrap().modified().unwrap(),
        begun
    );

    let table = bench.succeed(&[
        "report",
        "runs/adapt-lora-short-seed1",
        "runs/adapt-lora-short-seed2",
        "runs/adapt-eva-short-seed1",
        "runs/adapt-eva-short-seed2",
        "--out",
        "compared",
        "--html",
        "compared.html",
    ]);
    assert!(table.contains("| Pendulum-v1 {\"g\":12.0} | EVA, rank 2, ODT | 2 |"), "{table}");
    assert!(table.contains(" of 4 ("), "{table}");
    let figure = fs::read_to_string(bench.path("compared/curves.svg")).unwrap();
    assert!(figure.contains("LoRA, rank 2, ODT") && figure.contains("<polyline"), "{figure}");
    assert!(fs::read(bench.path("compared/curves.png")).unwrap().starts_with(b"\x89PNG"));
    let page = fs::read_to_string(bench.path("compared.html")).unwrap();
    assert_eq!(page.matches("data:image/gif;base64,").count(), 4, "both groups' videos, before and after");
    assert!(
        page.contains("EVA, rank 2, ODT") && !page.contains("http:") && !page.contains("https:"),
        "{page}"
    );

    let again = bench.run(&["report", "runs/adapt-lora-short-seed1", "--html", "compared.html"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("compared.html\" exists already"));
    assert_eq!(fs::read_to_string(bench.path("compared.html")).unwrap(), page);

    let found = json(&bench.succeed(&[
        "report",
        "runs/adapt-eva-short-seed1",
        "runs/adapt-eva-short-seed2",
        "--json",
    ]));
    let group = &found["groups"][0];
    assert_eq!(
        (group["method"].as_str(), group["runs"].as_i64()),
        (Some("EVA, rank 2, ODT"), Some(2)),
        "{found}"
    );
    assert_eq!(group["curves"].as_array().unwrap().len(), 2);
    assert_eq!(found["tables"][0]["head"][0], "method");

    // A copy of a run is no further seed, and the same folder counts once.
    copy_run(&bench.path("runs/adapt-lora-short-seed1"), &bench.path("copy"));
    let twice = ["report", "runs/adapt-lora-short-seed1", "copy", "runs/adapt-lora-short-seed1/"];
    let output = bench.run(&twice);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("2 runs have the seed 1 and are not independent"), "{said}");
    assert!(said.contains("named twice, and counts once"), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("| LoRA, rank 2, ODT | 2 |"));
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What `report` reads of a run.
fn copy_run(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for name in ["config.toml", "evaluation.json", "metrics.jsonl", "README.md"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    fs::create_dir(to.join("checkpoints")).unwrap();
}

#[track_caller]
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "a minute passed until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_sweep_that_is_stopped_stops_its_runs_with_a_checkpoint_and_one_that_is_killed_leaves_none() {
    let bench = Bench::with_policy();
    bench.write("grid.toml", &GRID.replace("offline.updates=2", "offline.updates=100000"));
    let runs = ["runs/adapt-eva-short-seed1", "runs/adapt-lora-short-seed1"];
    for (name, signal) in [("INT", 2), ("TERM", 15), ("KILL", 9)] {
        // Those of the sweep before would be taken for this one's.
        runs.iter().for_each(|run| drop(fs::remove_file(bench.path(&format!("{run}.log")))));
        let mut sweep = bench.command(&["sweep", "grid.toml", "--out", "runs", "--jobs", "2"]);
        let sweep = sweep.stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
        let logs =
            || runs.map(|run| fs::read_to_string(bench.path(&format!("{run}.log"))).unwrap_or_default());
        wait_until("both runs go", || logs().iter().all(|log| log.contains("update")));
        let writers = runs.map(|run| fs::read_to_string(bench.path(run).join(".lock")).unwrap());
        let second = bench.run(&["sweep", "grid.toml", "--out", "runs"]);
        let told = String::from_utf8_lossy(&second.stderr).into_owned();
        assert_eq!(second.status.code(), Some(2), "{told}");
        assert!(told.contains("is writing the sweep \"runs\"; a sweep has one writer at a time"), "{told}");
        // To its whole group, as a terminal does.
        let group = format!("-{}", sweep.id());
        assert!(Command::new("kill").args([&format!("-{name}"), "--", &group]).status().unwrap().success());
        let output = sweep.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.signal(), Some(signal), "{said}");
        if name != "KILL" {
            assert!(said.contains("adapt-lora-short-seed1: stopping at its next update"), "{said}");
            assert!(said.contains("after 0 of 4 runs; the same command goes on"), "{said}");
        }
        wait_until("the runs have ended", || {
            writers.iter().all(|pid| !Path::new("/proc").join(pid).exists())
        });
        for log in logs() {
            assert!(log.lines().last().unwrap().contains("which is saved"), "{log}");
        }
    }
}

#[test]
fn a_grid_that_was_changed_is_refused_before_anything_starts() {
    let bench = Bench::with_policy();
    let grid = "configs = [\"adapt.toml\"]\nseeds = [1, 2]\n[[axes]]\nchoices = { short = [\"online=\", \"offline.updates=2\"] }\n";
    bench.write("grid.toml", grid);
    let sweep = ["sweep", "grid.toml", "--out", "runs"];
    assert!(bench.succeed(&sweep).contains("2 runs done, 0 were done before"));
    // One is finished, the other was stopped.
    fs::remove_file(bench.path("runs/adapt-short-seed2/README.md")).unwrap();
    let config = fs::read(bench.path("runs/adapt-short-seed1/config.toml")).unwrap();
    bench.write("grid.toml", &grid.replace("updates=2", "updates=4").replace("[1, 2]", "[1, 2, 3]"));
    for more in [&[][..], &["--dry-run"][..]] {
        let output = bench.run(&[&sweep[..], more].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.starts_with("eva-rl: 2 of the grid's 3 runs are in \"runs\" with other settings"),
            "{said}"
        );
        for seed in ["1", "2"] {
            let wanted = format!("adapt-short-seed{seed}: `offline.updates` is 2 there and 4 here\n");
            assert!(said.contains(&wanted), "{said}");
        }
    }
    assert!(!bench.path("runs/adapt-short-seed3").exists());
    assert!(!bench.path("runs/adapt-short-seed2/README.md").exists());
    assert_eq!(fs::read(bench.path("runs/adapt-short-seed1/config.toml")).unwrap(), config);
    // The grid as it was goes on.
    bench.write("grid.toml", grid);
    assert!(bench.succeed(&sweep).contains("1 runs done, 1 were done before"));
}

#[test]
fn a_run_of_a_grid_that_fails_is_named_and_the_others_go_on() {
    let bench = Bench::with_policy();
    bench.write("grid.toml", &GRID.replace("eva = []", "gone = [\"data.datasets=['gone']\"]"));
    let output = bench.run(&["sweep", "grid.toml", "--out", "runs", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    let runs = json(&String::from_utf8(output.stdout).unwrap());
    let outcomes: Vec<&str> =
        runs.as_array().unwrap().iter().map(|run| run["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["failed", "done", "failed", "done"], "{runs}");
    assert!(runs[0]["error"].as_str().unwrap().contains("gone"), "{runs}");
    assert!(
        said.contains("adapt-gone-short-seed1: eva-rl: ") && said.contains("2 of 4 runs failed"),
        "{said}"
    );
    assert!(bench.path("runs/adapt-lora-short-seed2/README.md").is_file());

    bench.write("grid.toml", &GRID.replace("offline.updates=2", "offline.updats=2"));
    let output = bench.run(&["sweep", "grid.toml", "--out", "other"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("updats"));
    assert!(!bench.path("other").exists());
}
