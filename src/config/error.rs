//! Why a config is refused.

use std::path::PathBuf;

use super::mistakes::Mistake;

/// Why a config is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config {path:?}: {reason}")]
    Read { path: PathBuf, reason: String },

    /// The text is not TOML.
    #[error("{place}: {reason}")]
    Parse { place: String, reason: String },

    /// The text is TOML, and not of this schema: everything that is wrong with it, each with its place.
    #[error("{}", together(name, mistakes))]
    Mistakes { name: String, mistakes: Vec<String> },

    /// An override has no `=`, or no value that TOML knows.
    #[error("--set {text}: {reason}")]
    Override { text: String, reason: String },

    /// Values that are typed right and cannot be.
    #[error("{}", together("the config", &texts(.0)))]
    Values(Vec<Mistake>),
}

fn texts(mistakes: &[Mistake]) -> Vec<String> {
    mistakes.iter().map(|mistake| mistake.text.clone()).collect()
}

/// One mistake on its line, or several on lines of their own below a heading.
fn together(name: &str, mistakes: &[String]) -> String {
    match mistakes {
        [one] => one.clone(),
        several => format!("{name} has {} mistakes:\n  {}", several.len(), several.join("\n  ")),
    }
}
