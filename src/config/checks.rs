//! What values cannot be though their types are right, gathered so that all of it is told at once.

use super::error::ConfigError;
use super::mistakes::Mistake;

/// Checks that were made, and what they found.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// Values that are wrong by themselves.
    wrong: Vec<Mistake>,
    /// Values that do not go with others; they count only where none is wrong by itself.
    unfit: Vec<Mistake>,
}

impl Checks {
    /// Checks a value by itself: `key` `fits`, or it is `found` and `wanted`.
    pub fn value(&mut self, key: impl Into<String>, found: impl ToString, fits: bool, wanted: &str) {
        if !fits {
            self.wrong.push(mistake(&key.into(), &found.to_string(), wanted));
        }
    }

    /// Checks a value against others.
    pub fn relation(&mut self, key: impl Into<String>, found: impl ToString, fits: bool, wanted: &str) {
        if !fits {
            self.unfit.push(mistake(&key.into(), &found.to_string(), wanted));
        }
    }

    /// All that was found, if anything was.
    pub fn done(self) -> Result<(), ConfigError> {
        let found = if self.wrong.is_empty() { self.unfit } else { self.wrong };
        if found.is_empty() { Ok(()) } else { Err(ConfigError::Values(found)) }
    }
}

fn mistake(key: &str, found: &str, wanted: &str) -> Mistake {
    Mistake { paths: vec![path(key)], text: format!("`{key}` is {found}, and {wanted}") }
}

/// `axes[0].choices` as its parts; of `a.b + c` the first key's.
fn path(key: &str) -> Vec<String> {
    let first = key.split(' ').next().unwrap_or_default();
    first.split(['.', '[']).map(|part| part.trim_end_matches(']').to_owned()).collect()
}
