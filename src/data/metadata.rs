//! What a Minari dataset says of itself: `data/metadata.json`, or, before Minari 0.5, attributes of the HDF5 file.

use std::collections::HashMap;
use std::path::Path;

use eva_rl_envs::{ACTIONS, ActionSpace, Kwargs, ReferenceScores, Space};
use hdf5_pure::AttrValue;
use serde_json::{Map, Value};

use super::minari_write::{REFERENCE_KEY, env_of};
use super::reading::DatasetError;

/// Characters of a value that a message repeats.
const SHOWN: usize = 200;

/// The metadata and where it came from, for errors that name both.
pub(super) struct Metadata<'a> {
    path: &'a Path,
    values: &'a Value,
}

impl<'a> Metadata<'a> {
    pub fn new(path: &'a Path, values: &'a Value) -> Self {
        Self { path, values }
    }

    fn refuse(&self, key: &'static str, found: String, wanted: &'static str) -> DatasetError {
        DatasetError::Metadata { path: self.path.to_owned(), key, found, wanted }
    }

    fn error(&self, key: &'static str, wanted: &'static str) -> DatasetError {
        let found = self.values.get(key).map_or("nothing".to_owned(), Value::to_string);
        let short: String = found.chars().take(SHOWN).collect();
        let found = if short.len() < found.len() { format!("{short}…") } else { short };
        self.refuse(key, found, wanted)
    }

    /// A JSON document inside a JSON string, in Python's dialect: infinities become null.
    fn inner(&self, key: &'static str) -> Option<Value> {
        let text = self.values.get(key)?.as_str()?;
        serde_json::from_str(&without_infinities(text)).ok()
    }

    /// Refuses another format than HDF5.
    pub fn check_format(&self) -> Result<(), DatasetError> {
        match self.values["data_format"].as_str().unwrap_or("hdf5") {
            "hdf5" => Ok(()),
            _ => Err(self.error("data_format", "\"hdf5\"")),
        }
    }

    /// Episodes.
    pub fn episodes(&self) -> Result<usize, DatasetError> {
        let episodes = self.values["total_episodes"].as_u64();
        let episodes = episodes.filter(|episodes| (1..=10_000_000).contains(episodes));
        episodes
            .map(|episodes| episodes as usize)
            .ok_or_else(|| self.error("total_episodes", "a number of at least 1"))
    }

    fn space(&self, key: &'static str) -> Result<Space, DatasetError> {
        let space = self.inner(key).as_ref().and_then(Space::from_json);
        space.ok_or_else(|| self.error(key, "a space as Minari writes it, of at most 16,777,216 numbers,"))
    }

    /// The space of observations, which can be flattened.
    pub fn observation_space(&self) -> Result<Space, DatasetError> {
        let key = "observation_space";
        let space = self.space(key)?;
        if let Err((_, other)) = space.leaves() {
            let found = if *other == space { space.to_string() } else { format!("{space}, with {other}") };
            let wanted = "Box, Discrete, MultiDiscrete, MultiBinary, Text, or Dict and Tuple of these";
            return Err(self.refuse(key, found, wanted));
        }
        let encoded = self.values["jpeg_encoding"] == true;
        if encoded && space.leaves().unwrap_or_default().iter().any(|leaf| leaf.space.is_image()) {
            let wanted = "false: images as numbers, which JPEG has changed";
            return Err(self.refuse("jpeg_encoding", "true".to_owned(), wanted));
        }
        if space.width() == Some(0) {
            return Err(self.refuse(key, space.to_string(), "at least one number"));
        }
        Ok(space)
    }

    /// The space of actions.
    pub fn action_space(&self) -> Result<ActionSpace, DatasetError> {
        let key = "action_space";
        let space = self.space(key)?;
        space.actions().ok_or_else(|| self.refuse(key, space.to_string(), ACTIONS))
    }

    /// The environment and its options.
    pub fn env(&self) -> Option<(String, Kwargs)> {
        env_of(self.values, self.inner("env_spec").as_ref())
    }

    /// The returns that scores refer to: our own, or minari's, who does not say whose they are.
    pub fn reference(&self) -> Option<ReferenceScores> {
        let own = serde_json::from_value(self.values[REFERENCE_KEY].clone()).ok();
        let score = |key: &str| self.values[key].as_f64();
        let plain = || Some(ReferenceScores::agent(score("ref_min_score")?, score("ref_max_score")?));
        own.or_else(plain).filter(|scores: &ReferenceScores| scores.random < scores.expert)
    }

    /// Who acted.
    pub fn algorithm(&self) -> String {
        self.values["algorithm_name"].as_str().unwrap_or_default().to_owned()
    }
}

/// The metadata of a file of Minari's before 0.5.
pub(super) fn from_attributes(attributes: HashMap<String, AttrValue>) -> Value {
    let mut values = Map::new();
    for (name, value) in attributes {
        let value: Value = match value {
            AttrValue::I64(number) => number.into(),
            AttrValue::U64(number) => number.into(),
            AttrValue::I32(number) => number.into(),
            AttrValue::U32(number) => number.into(),
            AttrValue::F64(number) => number.into(),
            AttrValue::String(text)
            | AttrValue::AsciiString(text)
            | AttrValue::VarLenString(text)
            | AttrValue::VarLenAsciiString(text) => text.into(),
            AttrValue::StringSized { value, .. } | AttrValue::AsciiStringSized { value, .. } => value.into(),
            _ => continue,
        };
        values.insert(name, value);
    }
    Value::Object(values)
}

/// Python's JSON with null for its infinities; what stands in strings stays.
fn without_infinities(text: &str) -> String {
    let mut strict = String::with_capacity(text.len());
    let (mut rest, mut in_string) = (text, false);
    while let Some(first) = rest.chars().next() {
        let infinity = rest.strip_prefix("-Infinity").or_else(|| rest.strip_prefix("Infinity"));
        if let (false, Some(after)) = (in_string, infinity) {
            strict += "null";
            rest = after;
            continue;
        }
        // Within a string a backslash takes the character after it along.
        let escaped = if in_string && first == '\\' { rest[1..].chars().next() } else { None };
        let length = first.len_utf8() + escaped.map_or(0, char::len_utf8);
        in_string ^= first == '"';
        strict += &rest[..length];
        rest = &rest[length..];
    }
    strict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinities_are_null_and_strings_stay_as_they_are() {
        let text = r#"{"low": [-Infinity, 1], "high": Infinity, "name": "to Infinity \" -Infinity"}"#;
        let wanted = r#"{"low": [null, 1], "high": null, "name": "to Infinity \" -Infinity"}"#;
        assert_eq!(without_infinities(text), wanted);
    }
}
