//! What a policy must know of its training data to meet an environment, where its weights do not say.
//!
//! transformers' folders hold no normalisation, return scale or target. They are taken from the file
//! that the user names, else from `statistics.json` beside the weights, else from `config.json`, else
//! from the table of published releases.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::error::PolicyError;
use super::releases;
use crate::model::core::config::StatisticsSource;
use crate::model::core::statistics::Statistics;

/// The file beside a policy's weights.
const SIDECAR: &str = "statistics.json";

/// Keys that a file of statistics may hold; they mean what they mean in `config.json`.
const KEYS: [&str; 12] = [
    "state_dim",
    "act_dim",
    "action_kind",
    "max_ep_len",
    "context_length",
    "state_mean",
    "state_std",
    "return_scale",
    "target_return",
    "max_return_to_go",
    "action_low",
    "action_high",
];

/// Where a policy's statistics came from.
pub struct Origin {
    /// The same in short.
    pub source: StatisticsSource,
    /// What a file of statistics says.
    table: Map<String, Value>,
}

impl Origin {
    /// The file that says `key`, which may lead into a list: that of the statistics, or else `config`.
    pub fn file_of<'a>(&'a self, key: &str, config: &'a Path) -> &'a Path {
        let key = key.split(['.', '[']).next().unwrap_or_default();
        match &self.source {
            StatisticsSource::File(path) if self.table.contains_key(key) => path,
            _ => config,
        }
    }

    /// The statistics of the file at `path`, which is this one's.
    pub fn statistics(&self, path: &Path) -> Result<Statistics, PolicyError> {
        serde_path_to_error::deserialize(Value::Object(self.table.clone())).map_err(|error| {
            let reason = format!("`{}`: {}", error.path(), crate::in_words(error.inner()));
            PolicyError::Parse { path: path.to_owned(), reason }
        })
    }
}

/// Puts the statistics of `given`, of the sidecar of the weights at `weights` or of a release into `config`.
pub fn complete(
    config: &mut Map<String, Value>,
    weights: &Path,
    given: Option<&Path>,
) -> Result<Origin, PolicyError> {
    let folder = weights.parent().unwrap_or(Path::new("."));
    let sidecar = folder.join(SIDECAR);
    let file = match given {
        Some(path) => Some(path.to_owned()),
        None => Some(sidecar).filter(|path| path.is_file()),
    };
    if let Some(path) = file {
        let table = read(&path)?;
        config.extend(table.clone());
        return Ok(Origin { source: StatisticsSource::File(path), table });
    }
    let known = ["state_mean", "state_std", "return_scale", "target_return"];
    if !known.iter().any(|key| config.contains_key(*key))
        && let Some(release) = releases::recognise(folder, config)
    {
        config.insert("context_length".to_owned(), json!(releases::CONTEXT_LENGTH));
        config.insert("return_scale".to_owned(), json!(releases::RETURN_SCALE));
        config.insert("target_return".to_owned(), json!(release.target_return));
        config.insert("state_mean".to_owned(), json!(release.state_mean));
        config.insert("state_std".to_owned(), json!(release.state_std));
        let source = StatisticsSource::Release(release.name.to_owned());
        return Ok(Origin { source, table: Map::new() });
    }
    if !config.contains_key("target_return")
        && let Some(game) = releases::recognise_atari(weights, config)
    {
        config.insert("target_return".to_owned(), json!(game.target_return));
        let source = StatisticsSource::Release(format!("decision_transformer_atari, {}", game.name));
        return Ok(Origin { source, table: Map::new() });
    }
    Ok(Origin { source: StatisticsSource::Config, table: Map::new() })
}

fn read(path: &Path) -> Result<Map<String, Value>, PolicyError> {
    let table = read_table(path)?;
    match table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        None => Ok(table),
        Some(key) => Err(PolicyError::Parse {
            path: path.to_owned(),
            reason: format!("it has the key `{key}`, and only these are known: {}", KEYS.join(", ")),
        }),
    }
}

/// Says that the file at `path` is not there.
pub fn no_such_file(path: PathBuf) -> PolicyError {
    let reason = std::io::Error::from(std::io::ErrorKind::NotFound).to_string();
    PolicyError::Read { path, reason }
}

/// A file that is one JSON object.
pub fn read_table(path: &Path) -> Result<Map<String, Value>, PolicyError> {
    let path: PathBuf = path.to_owned();
    let text = crate::read_text(&path)
        .map_err(|error| PolicyError::Read { path: path.clone(), reason: error.to_string() })?;
    serde_json::from_str(&text).map_err(|error| PolicyError::Parse { path, reason: crate::in_words(&error) })
}
