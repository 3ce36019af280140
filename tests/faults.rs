//! The short form of `make faults`: kills, full disks (where something can be mounted) and damaged files.

use std::path::Path;
use std::process::Command;

#[test]
fn kills_full_disks_and_damaged_files_lose_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("python3")
        .arg(root.join("tools/reliability/faults.py"))
        .args([
            "--binary",
            env!("CARGO_BIN_EXE_eva-rl"),
            "--kills",
            "5",
            "--pairs",
            "1",
            "--disks",
            "3",
            "--mutants",
            "60",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let cried = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("0 faults"), "{said}{cried}");
    assert!(said.contains("kills: ") && said.contains("mutants: 60"), "{said}");
}
