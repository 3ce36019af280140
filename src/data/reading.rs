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
    } else if inside("babyai") {
        "make babyai-data"
    } else if inside("atari") {
        "make pixels-data"
    } else if name == "pendulum-g14-v0" {
        "make demo"
    } else if name.ends_with("-medium-v0") {
        "make medium"
    } else if name.starts_with("pendulum-g") && inside("datasets") {
        "make pretrained"
    } else {
        return "`eva-rl collect --env ID --policy POLICY --episodes N --out DATASET` makes one, and minari:NAMESPACE/NAME downloads one".to_owned();
    };
    format!("`{target}` makes it, in eva-rl's sources")
}

/// A text on one line.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Why the HDF5 crate cannot read something, on one line, with the name of a compression that it does not know.
pub(super) fn hdf5_reason(error: &hdf5_pure::Error) -> String {
    let reason = one_line(&error.to_string());
    let Some((_, number)) = reason.split_once("unsupported filter: ") else { return reason };
    // Of those that the HDF Group has registered.
    let name = match number {
        "4" => "szip",
        "307" => "bzip2",
        "32001" => "Blosc",
        "32004" => "LZ4",
        "32008" => "Bitshuffle",
        "32013" => "ZFP",
        "32015" => "Zstandard",
        "32026" => "Blosc2",
        _ => "another method",
    };
    format!(
        "it is compressed by {name} (HDF5's filter {number}), expected gzip, lzf or none; h5repack -f GZIP=4 makes such a file"
    )
}

#[cfg(test)]
mod tests {
    use hdf5_pure::{Error, FormatError};

    use super::*;

    #[test]
    fn a_compression_that_is_not_known_is_named() {
        let reason = |number| hdf5_reason(&Error::Format(FormatError::UnsupportedFilter(number)));
        assert_eq!(
            reason(32001),
            "it is compressed by Blosc (HDF5's filter 32001), expected gzip, lzf or none; h5repack -f GZIP=4 makes such a file"
        );
        assert!(reason(999).starts_with("it is compressed by another method (HDF5's filter 999), expected"));
        let other = Error::Format(FormatError::InvalidOffsetSize(3));
        assert_eq!(hdf5_reason(&other), one_line(&other.to_string()));
    }
}
