//! Where models come from: Gymnasium's own stand in the program, a user's is a file.

use std::path::PathBuf;
use std::sync::Arc;

use mujoco_rs::error::MjModelError;
use mujoco_rs::mujoco_c::mjtDisableBit as MjtDisableBit;
use mujoco_rs::wrappers::MjModel;
use mujoco_rs::wrappers::mj_editing::MjSpec;

use super::messages::silence_logs;
use super::pairs::with_pairs;
use crate::core::error::EnvError;
use crate::core::kwargs::KwargReader;

/// Gymnasium's models, which `make setup` has put beside the sources.
macro_rules! gymnasium_models {
    ($($name:literal),*) => {
        [$(($name, include_str!(concat!(env!("EVA_RL_MUJOCO_MODELS"), "/", $name, ".xml")))),*]
    };
}

pub(super) static MODELS: [(&str, &str); 14] = gymnasium_models![
    "ant",
    "half_cheetah",
    "hopper",
    "humanoid",
    "humanoidstandup",
    "inverted_double_pendulum",
    "inverted_pendulum",
    "point",
    "pusher",
    "pusher_v5",
    "reacher",
    "swimmer",
    "walker2d",
    "walker2d_v5"
];

/// MuJoCo ends the process when a simulation outgrows its memory, so a model that asks for less than
/// this is refused. Its own choice for the smallest model is several times as much.
const LEAST_MEMORY: i64 = 1 << 20;

/// Reads `xml_file`, which is one of Gymnasium's names or a path, and loads it.
pub(super) fn load(kwargs: &mut KwargReader, default: &str) -> Result<(String, Arc<MjModel>), EnvError> {
    silence_logs();
    let name = kwargs.text("xml_file", default)?;
    let own = MODELS.iter().find(|(own, _)| name.strip_suffix(".xml") == Some(own));
    let (loaded, spec) = match own {
        Some((_, xml)) => (MjModel::from_xml_string(xml), MjSpec::from_xml_string(xml)),
        None => {
            let path = expanded(&name);
            if !path.is_file() {
                return Err(
                    kwargs.refused("xml_file", "the path of a file, or the name of a model of Gymnasium's")
                );
            }
            (MjModel::from_xml(&path), MjSpec::from_xml(&path))
        }
    };
    let refused =
        |problem: String| EnvError::Model { id: kwargs.id().to_owned(), xml_file: name.clone(), problem };
    let mut model = loaded.map_err(|error| {
        let words = match error {
            MjModelError::LoadFailed(words) => words,
            error => error.to_string(),
        };
        // MuJoCo's words may run over several lines.
        refused(format!("cannot be loaded: {}", words.split_whitespace().collect::<Vec<_>>().join(" ")))
    })?;
    let memory = model.ffi().narena;
    if memory < LEAST_MEMORY {
        return Err(refused(format!(
            "asks for {memory} bytes of memory; it must ask for at least {LEAST_MEMORY}"
        )));
    }
    if let Some(same) = spec.ok().and_then(|spec| with_pairs(spec, &model)) {
        model = same;
    }
    // The bodies of one tree are one island anyway; not looking for it changes no bit.
    if model.ffi().ntree == 1 {
        model.opt_mut().disableflags |= MjtDisableBit::mjDSBL_ISLAND as i32;
    }
    Ok((name, Arc::new(model)))
}

/// A path that may start at the user's home.
fn expanded(name: &str) -> PathBuf {
    match (name.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(name),
    }
}
