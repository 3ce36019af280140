//! Finds Gymnasium's models, which `make setup` puts beside MuJoCo's library, for `src/mujoco/engine/model.rs`.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=MUJOCO_DYNAMIC_LINK_DIR");
    if env::var_os("CARGO_FEATURE_MUJOCO").is_none() {
        return;
    }
    let models = beside_the_library().or_else(above_the_sources);
    let models = models.unwrap_or_else(|| {
        panic!(
            "Gymnasium's MuJoCo models are in no folder `models` beside MUJOCO_DYNAMIC_LINK_DIR and in no `.mujoco/models` above the sources; `make setup` fetches them, and `--no-default-features` builds without MuJoCo"
        )
    });
    println!("cargo::rustc-env=EVA_RL_MUJOCO_MODELS={}", models.display());
}

/// `MUJOCO_DYNAMIC_LINK_DIR` is `.mujoco/lib`.
fn beside_the_library() -> Option<PathBuf> {
    let library = PathBuf::from(env::var_os("MUJOCO_DYNAMIC_LINK_DIR")?);
    existing(&library.parent()?.join("models"))
}

fn above_the_sources() -> Option<PathBuf> {
    let sources = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    sources.ancestors().find_map(|folder| existing(&folder.join(".mujoco/models")))
}

fn existing(models: &Path) -> Option<PathBuf> {
    models.join("hopper.xml").is_file().then(|| models.canonicalize().ok())?
}
