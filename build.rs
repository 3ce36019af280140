//! Has the program find libtorch, MuJoCo and MPI where they lie now, wherever it is copied to (`cargo install`).
//! The paths in `.cargo/config.toml` are relative to the program, so that a checkout may move.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let mut folders = Vec::new();
    for (variable, folder) in [("LIBTORCH", "lib"), ("MUJOCO_DYNAMIC_LINK_DIR", ".")] {
        println!("cargo::rerun-if-env-changed={variable}");
        folders.extend(std::env::var_os(variable).map(|root| Path::new(&root).join(folder)));
    }
    if std::env::var_os("CARGO_FEATURE_MPI").is_some() {
        folders.extend(mpi_folders());
    }
    for folder in folders {
        // One argument each, because the path may hold commas.
        for argument in ["-Xlinker", "-rpath", "-Xlinker", &folder.display().to_string()] {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}

/// Where the MPI of `mpicc` has its libraries.
fn mpi_folders() -> Vec<PathBuf> {
    println!("cargo::rerun-if-env-changed=PATH");
    let shown = Command::new("mpicc").arg("-show").output().map(|output| output.stdout).unwrap_or_default();
    let words = String::from_utf8_lossy(&shown).into_owned();
    words.split_whitespace().filter_map(|word| word.strip_prefix("-L")).map(PathBuf::from).collect()
}
