//! The examples that `--help` shows, run in a copy of the repository as `make demo` leaves it.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::support::Bench;

/// The commands, in an order in which each finds what it reads; `help` shows examples of its own arguments.
const COMMANDS: [&[&str]; 20] = [
    &["init"],
    &["train"],
    &["evaluate"],
    &["collect"],
    &["convert"],
    &["eva"],
    &["merge"],
    &["predict"],
    &["inspect"],
    &["envs"],
    &["bench", "env"],
    &["bench", "forward"],
    &["bench", "rollout"],
    &["bench", "eva"],
    &["bench", "update"],
    &["sweep"],
    &["subspaces"],
    &["push"],
    &["report"],
    &["completions"],
];

/// What is put behind an example so that it takes seconds; the words before it are as they are printed.
fn shortened(example: &str) -> String {
    if example.contains(" bench env ")
        || example.contains(" bench forward ")
        || example.contains(" bench rollout ")
    {
        format!("{example} --seconds 0.2")
    } else if example.contains(" push ") || example.contains(" sweep ") && !example.contains("--dry-run") {
        format!("{example} --dry-run")
    } else if example.contains(" train ") {
        format!(
            "{example} --set offline.updates=2 --set online.filtered_bc.exploration.rounds=1 --set online.filtered_bc.exploration.updates_per_round=1 --set evaluation.episodes=2"
        )
    } else {
        example.to_owned()
    }
}

#[test]
fn every_example_of_help_runs() {
    let bench = Bench::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["agents", "configs", "policies", "tests"] {
        symlink(root.join(name), bench.path(name)).unwrap();
    }
    let data = "collect --env Pendulum-v1 --env-kwarg g=14 --policy scripted --noise 0.5 --episodes 20 --seed 2 --out datasets/pendulum-g14-v0";
    bench.succeed(&data.split(' ').collect::<Vec<_>>());
    let program = Path::new(env!("CARGO_BIN_EXE_eva-rl"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let all = bench.succeed(&["--help"]);
    for command in COMMANDS {
        assert!(all.contains(&format!("\n  {}", command[0])), "{command:?} is no command");
        let help = bench.succeed(&[command, &["--help"]].concat());
        let examples: Vec<&str> = help
            .lines()
            .skip_while(|line| !line.starts_with("Example:"))
            .map(str::trim)
            .filter(|line| line.contains("eva-rl "))
            .collect();
        assert!(!examples.is_empty(), "{command:?} has no example");
        for example in examples.iter().filter(|example| !was_run(&bench, example)) {
            let output = Command::new("bash")
                .args(["-e", "-c", &shortened(example)])
                .current_dir(bench.path(""))
                .env("PATH", &path)
                .env("OMP_NUM_THREADS", "1")
                .output()
                .unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{example}: {stderr}");
        }
    }
}

/// Whether an example writes what an earlier one has written: `merge` shows again how its adapter is made.
fn was_run(bench: &Bench, example: &str) -> bool {
    let out = example.split("--out ").nth(1).and_then(|rest| rest.split(' ').next());
    out.is_some_and(|out| bench.path(out).exists())
}
