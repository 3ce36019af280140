//! Where a policy's statistics are taken from.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The word for the data, which no file without a folder before it can be called.
const DATA: &str = "data";

/// Statistics over those of a policy's own files.
#[derive(Clone, Debug, PartialEq)]
pub enum StatisticsFrom {
    /// Those of the data.
    Data,
    /// Those of a file.
    File(PathBuf),
}

impl StatisticsFrom {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Data => None,
            Self::File(path) => Some(path),
        }
    }
}

impl From<PathBuf> for StatisticsFrom {
    fn from(path: PathBuf) -> Self {
        if path == Path::new(DATA) { Self::Data } else { Self::File(path) }
    }
}

impl Serialize for StatisticsFrom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.file().unwrap_or(Path::new(DATA)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StatisticsFrom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        PathBuf::deserialize(deserializer).map(Self::from)
    }
}

impl JsonSchema for StatisticsFrom {
    fn schema_name() -> Cow<'static, str> {
        "StatisticsFrom".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}
