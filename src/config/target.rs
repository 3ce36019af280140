//! The return that a policy is asked for.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const BEST: &str = "best";

/// What a target return is called in a schema.
pub const TARGET: &str = "target_return";

/// What it may be.
pub const TARGET_WANTED: &str = "a finite number, \"best\" or a multiple of it such as \"best*1.5\"";

/// A return to ask for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TargetReturn {
    /// So much, in the environment's units.
    Of(f32),
    /// So many times the greatest return of the data's episodes: `"best"`, or `"best*1.5"`.
    Best(f32),
}

impl TargetReturn {
    /// In the environment's units, where the data's greatest return is `best`.
    pub fn given(self, best: f32) -> f32 {
        match self {
            Self::Of(target) => target,
            Self::Best(factor) => factor * best,
        }
    }
}

impl FromStr for TargetReturn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse().ok().filter(|number: &f32| number.is_finite());
        let found = match text.trim().strip_prefix(BEST).map(str::trim_start) {
            Some("") => Some(Self::Best(1.0)),
            Some(rest) => rest.strip_prefix('*').and_then(number).map(Self::Best),
            None => number(text).map(Self::Of),
        };
        found.ok_or_else(|| format!("found {text:?}, expected {TARGET_WANTED}"))
    }
}

impl fmt::Display for TargetReturn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(target) => write!(f, "{target}"),
            Self::Best(1.0) => f.write_str(BEST),
            Self::Best(factor) => write!(f, "{BEST}*{factor}"),
        }
    }
}

impl Serialize for TargetReturn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Of(target) => target.serialize(serializer),
            Self::Best(_) => self.to_string().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for TargetReturn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f32),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(target) => Ok(Self::Of(target)),
            Written::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

impl JsonSchema for TargetReturn {
    fn schema_name() -> Cow<'static, str> {
        "TargetReturn".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["number", "string"], "format": TARGET })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_number_or_a_multiple_of_the_data_s_best() {
        let given = |text: &str| text.parse::<TargetReturn>().unwrap().given(-200.0);
        assert_eq!(["-150", "best", "best*0.5", "best * 1.5"].map(given), [-150.0, -200.0, -100.0, -300.0]);
        for bad in ["", "bestest", "best*", "best*inf", "nan", "1.5*best"] {
            let error = bad.parse::<TargetReturn>().unwrap_err();
            assert!(
                error.starts_with(&format!("found {bad:?}, expected a finite number, \"best\"")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_target_is_written_as_it_was_read() {
        for text in ["-150", "best", "best*1.5"] {
            assert_eq!(text.parse::<TargetReturn>().unwrap().to_string(), text);
        }
    }
}
