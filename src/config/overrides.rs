//! `--set KEY=VALUE`, edited into a config's document.

use std::fmt;

use toml_edit::{DocumentMut, Item, Key, Table, TableLike};

use super::error::ConfigError;
use super::schema::{Kind, listed};

/// `--set a.b=1` sets a key, and `--set a.b=` takes it out.
pub(super) struct Override {
    /// As it was given, without `--set`.
    pub text: String,
    /// The parts of its key.
    pub path: Vec<String>,
    value: Option<toml_edit::Value>,
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--set {}", self.text)
    }
}

impl Override {
    /// Reads `KEY=VALUE`.
    pub fn read(text: &str) -> Result<Self, ConfigError> {
        let refuse =
            |reason: &str| ConfigError::Override { text: text.to_owned(), reason: reason.to_owned() };
        let (path, value) =
            text.split_once('=').ok_or_else(|| refuse("no `=`; write KEY=VALUE, such as seed=2"))?;
        let keys =
            Key::parse(path).map_err(|_| refuse("no key before `=`; write KEY=VALUE, such as seed=2"))?;
        let value = match value.trim() {
            "" => None,
            // What is no TOML value is a bare string, so that quotes are not needed twice in a shell.
            value => Some(value.parse().unwrap_or_else(|_| value.into())),
        };
        Ok(Self { text: text.to_owned(), path: keys.iter().map(|key| key.get().to_owned()).collect(), value })
    }

    /// Sets or removes the key; the tables on its way are made where they are missing.
    pub fn apply(&self, document: &mut DocumentMut, kind: &Kind) -> Result<(), ConfigError> {
        let refuse = |reason: String| ConfigError::Override { text: self.text.clone(), reason };
        let (last, tables) = self.path.split_last().expect("a parsed key has at least one part");
        let mut table: &mut dyn TableLike = document.as_table_mut();
        for key in tables {
            if self.value.is_none() && !table.contains_key(key) {
                return self.check_known(kind);
            }
            let item = table.entry(key).or_insert_with(|| Item::Table(Table::new()));
            table = item.as_table_like_mut().ok_or_else(|| refuse(format!("`{key}` is not a table")))?;
        }
        match &self.value {
            Some(value) => {
                table.insert(last, Item::Value(value.clone()));
            }
            None => {
                if table.remove(last).is_none() {
                    return self.check_known(kind);
                }
            }
        }
        Ok(())
    }

    /// Refuses to remove what no config has: it is misspelt.
    fn check_known(&self, kind: &Kind) -> Result<(), ConfigError> {
        let mut kind = kind;
        for name in &self.path {
            let keys = kind.keys();
            match keys.iter().find(|key| key.name == *name) {
                Some(key) => kind = &key.kind,
                None if keys.is_empty() => return Ok(()),
                None => {
                    let text = format!("there is no `{name}` to remove; {} are known", listed(keys.iter()));
                    return Err(ConfigError::Override { text: self.text.clone(), reason: text });
                }
            }
        }
        Ok(())
    }
}
