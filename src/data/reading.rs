//! How faults in datasets are taken, and how they are told.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a dataset cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error("there is no dataset {path:?}; {}", how_to_make(path))]
    Absent { path: PathBuf },

    #[error("{path:?} is not a Minari dataset: cannot read {file}: {reason}")]
    Read { path: PathBuf, file: &'static str, reason: String },

    #[error("{path:?} is a file, and a dataset is a folder as Minari writes it, with data/main_data.hdf5")]
    File { path: PathBuf },

    #[error("the dataset {path:?} has `{key}` = {found} in its metadata, expected {wanted}")]
    Metadata { path: PathBuf, key: &'static str, found: String, wanted: &'static str },

    #[error("the D4RL file {path:?}: {reason}")]
    D4rl { path: PathBuf, reason: String },

    #[error("the dataset {path:?}, episode {episode}: {reason}")]
    Episode { path: PathBuf, episode: usize, reason: String },
}

/// What to do with an episode that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBadEpisode {
    /// The dataset is refused.
    #[default]
    Refuse,
    /// The episode is left out, and counted.
    Skip,
}

/// How faults in the episodes of a dataset are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// Of an episode that cannot be read.
    pub on_bad_episode: OnBadEpisode,
    /// Whether actions outside of their Box are clipped to it, as environments do; they are faults where not.
    pub clip_actions: bool,
    /// Whether an observation's image is kept apart from its numbers, as bytes; it is flattened like the rest where
    /// not.
    pub images: bool,
}

/// How a dataset comes to be: those of this repository's configs by `make`.
fn how_to_make(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let inside = |folder: &str| path.components().any(|part| part.as_os_str() == folder);
    let target = if inside("metaworld") {
        "make metaworld-data"
    } else if name == "pendulum-g14-v0" {
        "make demo"
    } else if name.ends_with("-medium-v0") {
        "make medium"
    } else if name.starts_with("pendulum-g") && inside("datasets") {
        "make pretrained"
    } else {
        return "`eva-rl collect --env ID --policy POLICY --episodes N --out DATASET` makes one".to_owned();
    };
    format!("`{target}` makes it, in eva-rl's sources")
}

/// A text on one line.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
