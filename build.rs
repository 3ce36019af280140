//! Has the program find libtorch and MuJoCo where they lie now, wherever it is copied to (`cargo install`).
//! The paths in `.cargo/config.toml` are relative to the program, so that a checkout may move.

use std::path::Path;

fn main() {
    for (variable, folder) in [("LIBTORCH", "lib"), ("MUJOCO_DYNAMIC_LINK_DIR", ".")] {
        println!("cargo::rerun-if-env-changed={variable}");
        if let Some(root) = std::env::var_os(variable) {
            // One argument each, because the path may hold commas.
            let path = Path::new(&root).join(folder).display().to_string();
            for argument in ["-Xlinker", "-rpath", "-Xlinker", &path] {
                println!("cargo::rustc-link-arg-bins={argument}");
            }
        }
    }
}
