//! Datasets where a user names them: by a path, or by minari's name.

use std::path::Path;

use super::minari;
use super::reading::Reading;
use super::trajectory::Dataset;
use crate::hub;
use crate::support::errors::OrInput;

/// Reads the dataset at a path, or of a name, `minari:NAMESPACE/NAME`, which is downloaded where it is not at hand.
pub fn read_named(path: &Path, reading: Reading) -> anyhow::Result<Dataset> {
    minari::read_with(&hub::dataset(path)?, reading).or_input()
}
