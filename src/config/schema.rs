//! What a config may hold: its keys, their types and their docs, as the types of this module say them.

use std::fmt;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::target::{TARGET, TARGET_WANTED};

/// One key of a table, or one table of a choice.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// Its documentation, on one line.
    pub docs: String,
    /// Whether it has no default.
    pub required: bool,
    /// Its value where it is left out, if that is not nothing.
    pub default: Option<Value>,
    /// What its value may be.
    pub kind: Kind,
}

/// The numbers that a value may be, all where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Range {
    /// The least.
    pub min: Option<f64>,
    /// The greatest.
    pub max: Option<f64>,
    /// Below all of them.
    pub above: Option<f64>,
    /// Above all of them.
    pub below: Option<f64>,
}

impl Range {
    fn read(schema: &Value) -> Self {
        let bound = |key: &str| schema[key].as_f64();
        Self {
            min: bound("minimum"),
            max: bound("maximum"),
            above: bound("exclusiveMinimum"),
            below: bound("exclusiveMaximum"),
        }
    }

    /// Whether a number is finite and lies within.
    pub fn contains(&self, number: f64) -> bool {
        number.is_finite()
            && self.min.is_none_or(|min| min <= number)
            && self.max.is_none_or(|max| number <= max)
            && self.above.is_none_or(|above| above < number)
            && self.below.is_none_or(|below| number < below)
    }
}

impl fmt::Display for Range {
    /// `in [0, 1)`, `above 0` or the like; nothing where all finite numbers are within.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let low = self.min.map(|min| format!("[{min}")).or(self.above.map(|above| format!("({above}")));
        let high = self.max.map(|max| format!("{max}]")).or(self.below.map(|below| format!("{below})")));
        match (low, high) {
            (Some(low), Some(high)) => write!(f, "in {low}, {high}"),
            (Some(_), None) => match (self.min, self.above) {
                (Some(min), _) => write!(f, "of at least {min}"),
                (None, above) => write!(f, "above {}", above.unwrap_or_default()),
            },
            (None, Some(_)) => match (self.max, self.below) {
                (Some(max), _) => write!(f, "of at most {max}"),
                (None, below) => write!(f, "below {}", below.unwrap_or_default()),
            },
            (None, None) => Ok(()),
        }
    }
}

/// What a value may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A table of these keys.
    Table(Vec<Key>),
    /// A table of any keys.
    Map(Box<Kind>),
    /// A table of exactly one of these.
    Choice(Vec<Key>),
    /// One of these words, each with its documentation.
    Words(Vec<(String, String)>),
    /// A whole number, within bounds.
    Whole { min: Option<i64>, max: Option<i64> },
    /// A finite number; `single` is float32.
    Number { single: bool, range: Range },
    /// A target return: a finite number, or a multiple of the data's best.
    Target,
    /// A string.
    Text,
    /// `true` or `false`.
    Flag,
    /// A list.
    List(Box<Kind>),
    /// What the environment or somebody else reads.
    Anything,
}

impl Kind {
    /// What `T` may be.
    pub fn of<T: JsonSchema>() -> Self {
        let settings = SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
        Self::read(settings.into_generator().into_root_schema_for::<T>().as_value())
    }

    /// Reads a JSON schema as schemars writes it.
    fn read(schema: &Value) -> Self {
        let list = |key: &str| schema[key].as_array().map(Vec::as_slice);
        if let Some(options) = list("anyOf") {
            // An `Option` of a choice.
            let given = options.iter().find(|option| option["type"] != "null");
            return given.map_or(Self::Anything, Self::read);
        }
        if schema.get("const").is_some() || list("enum").is_some() {
            return Self::Words(words(schema));
        }
        if let Some(options) = list("oneOf") {
            if options.iter().all(|option| option["type"] == "string") {
                return Self::Words(options.iter().flat_map(words).collect());
            }
            return Self::Choice(options.iter().flat_map(|option| keys(option, &docs(option))).collect());
        }
        let types = schema["type"].as_array();
        if schema["format"] == TARGET {
            return Self::Target;
        }
        let kind = match types {
            Some(types) => types.iter().find(|kind| **kind != "null").and_then(Value::as_str),
            None => schema["type"].as_str(),
        };
        match kind {
            Some("object")
                if schema.get("properties").is_some() || schema["additionalProperties"] == false =>
            {
                Self::Table(keys(schema, ""))
            }
            Some("object") => Self::Map(Box::new(Self::read(&schema["additionalProperties"]))),
            Some("array") => Self::List(Box::new(Self::read(&schema["items"]))),
            Some("integer") => {
                Self::Whole { min: schema["minimum"].as_i64(), max: schema["maximum"].as_i64() }
            }
            Some("number") => {
                Self::Number { single: schema["format"] == "float", range: Range::read(schema) }
            }
            Some("string") => Self::Text,
            Some("boolean") => Self::Flag,
            _ => Self::Anything,
        }
    }

    /// The keys of a table, or of a choice.
    pub fn into_keys(self) -> Vec<Key> {
        match self {
            Self::Table(keys) | Self::Choice(keys) => keys,
            _ => Vec::new(),
        }
    }

    /// The same by reference.
    pub fn keys(&self) -> &[Key] {
        match self {
            Self::Table(keys) | Self::Choice(keys) => keys,
            _ => &[],
        }
    }

    /// Whether a number is of this kind.
    pub fn has(&self, number: &Value) -> bool {
        match self {
            Self::Whole { min, max } => number.as_i64().is_some_and(|number| {
                min.is_none_or(|min| min <= number) && max.is_none_or(|max| number <= max)
            }),
            Self::Number { range, .. } => number.as_f64().is_some_and(|number| range.contains(number)),
            _ => false,
        }
    }

    /// What is expected of a value at `key`, in words.
    pub fn expected(&self, key: &str) -> String {
        match self {
            Self::Table(keys) if keys.is_empty() => format!("an empty table, {} = {{}}", last(key)),
            Self::Table(_) | Self::Map(_) => format!("a table [{key}]"),
            Self::Choice(options) => {
                let forms: Vec<String> = options.iter().map(|option| form(option, last(key))).collect();
                format!("a table with one of {}; such as {}", listed(options.iter()), forms[0])
            }
            Self::Words(words) => {
                let words: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
                format!("one of {}", words.join(", "))
            }
            Self::Whole { min, max } => match (min, max) {
                (Some(min), Some(max)) => format!("a whole number from {min} to {max}"),
                (Some(min), None) => format!("a whole number of at least {min}"),
                (None, Some(max)) => format!("a whole number of at most {max}"),
                (None, None) => "a whole number".to_owned(),
            },
            Self::Number { range, .. } if *range == Range::default() => "a finite number".to_owned(),
            Self::Number { range, .. } => format!("a number {range}"),
            Self::Target => TARGET_WANTED.to_owned(),
            Self::Text => "a string".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::List(each) => match &**each {
                Self::Text => "a list of strings, [\"…\"]".to_owned(),
                Self::Number { .. } | Self::Whole { .. } => "a list of numbers, [1, 2]".to_owned(),
                Self::Target => format!("a list, each {TARGET_WANTED}"),
                Self::Words(_) => format!("a list, [\"…\"], of {}", each.expected(key)),
                _ => "a list, […]".to_owned(),
            },
            Self::Anything => "a value".to_owned(),
        }
    }
}

/// The names that `T` chooses among, words or tables, each with its documentation.
pub fn choices<T: JsonSchema>() -> Vec<(String, String)> {
    match Kind::of::<T>() {
        Kind::Choice(options) => options.into_iter().map(|option| (option.name, option.docs)).collect(),
        Kind::Words(words) => words,
        _ => Vec::new(),
    }
}

/// `key = { choice = { a = …, b = … } }`, with the keys that a choice must have.
pub(super) fn form(choice: &Key, key: &str) -> String {
    let inner: Vec<String> = choice.kind.keys().iter().filter(|key| key.required).map(value_of).collect();
    let inner = if inner.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", inner.join(", ")) };
    format!("{key} = {{ {} = {inner} }}", choice.name)
}

fn value_of(key: &Key) -> String {
    match &key.kind {
        Kind::Table(_) => {
            let inner: Vec<String> =
                key.kind.keys().iter().filter(|key| key.required).map(value_of).collect();
            format!("{} = {{ {} }}", key.name, inner.join(", "))
        }
        _ => format!("{} = …", key.name),
    }
}

/// Names in backticks.
pub(super) fn listed<'a>(keys: impl Iterator<Item = &'a Key>) -> String {
    keys.map(|key| format!("`{}`", key.name)).collect::<Vec<_>>().join(", ")
}

/// The known name that a misspelt one may stand for.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |other: &str| strsim::jaro_winkler(name, other);
    known.filter(|other| likeness(other) > 0.8).max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

/// The last part of a dotted key.
pub(super) fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

fn keys(schema: &Value, outer: &str) -> Vec<Key> {
    let Some(properties) = schema["properties"].as_object() else { return Vec::new() };
    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    let key = |(name, schema): (&String, &Value)| Key {
        name: name.clone(),
        docs: if outer.is_empty() { docs(schema) } else { outer.to_owned() },
        required: required.iter().any(|other| other == name),
        default: schema.get("default").filter(|default| !default.is_null()).cloned(),
        kind: Kind::read(schema),
    };
    properties.iter().map(key).collect()
}

fn words(schema: &Value) -> Vec<(String, String)> {
    let one = schema.get("const").into_iter();
    let several = schema["enum"].as_array().into_iter().flatten();
    one.chain(several).filter_map(Value::as_str).map(|word| (word.to_owned(), docs(schema))).collect()
}

fn docs(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
