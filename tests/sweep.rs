//! A grid of runs.

use std::fs;
use std::path::Path;

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
    assert_eq!(page.matches("data:image/gif;base64,").count(), 4, "both groups' films, before and after");
    assert!(
        page.contains("EVA, rank 2, ODT") && !page.contains("http:") && !page.contains("https:"),
        "{page}"
    );

    let again = bench.run(&["report", "runs/adapt-lora-short-seed1", "--html", "compared.html"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("compared.html\" exists already"));
    assert_eq!(fs::read_to_string(bench.path("compared.html")).unwrap(), page);

    // A copy of a run is no further seed, and the same folder counts once.
    copy_run(&bench.path("runs/adapt-lora-short-seed1"), &bench.path("copy"));
    let twice = ["report", "runs/adapt-lora-short-seed1", "copy", "runs/adapt-lora-short-seed1/"];
    let output = bench.run(&twice);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("2 runs have the seed 1 and are not independent"), "{said}");
    assert!(said.contains("named twice, and counts once"), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("| LoRA, rank 2, ODT | 2 |"));
}

/// What `report` reads of a run.
fn copy_run(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for name in ["config.toml", "evaluation.json", "metrics.jsonl", "README.md"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    fs::create_dir(to.join("checkpoints")).unwrap();
}

#[test]
fn a_run_of_a_grid_that_fails_is_named_and_the_others_go_on() {
    let bench = Bench::with_policy();
    bench.write("grid.toml", &GRID.replace("eva = []", "gone = [\"data.datasets=['gone']\"]"));
    let output = bench.run(&["sweep", "grid.toml", "--out", "runs"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
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
