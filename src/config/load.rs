//! Reads a config, with `--set` overrides edited into the document before its schema is applied.

use std::path::Path;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use toml_edit::{Document, DocumentMut, Item};

use super::error::ConfigError;
use super::mistakes::{self, Mistake};
use super::overrides::Override;
use super::run::{RunConfig, RunPlan};
use super::schema::Kind;

/// Reads a config file and applies overrides `a.b=1` to it, in order.
pub fn load(path: &Path, overrides: &[String]) -> Result<RunConfig, ConfigError> {
    read(&read_text(path)?, &path.display().to_string(), overrides)
}

/// The same, checked: what its values cannot be is told with their places.
pub fn load_plan(path: &Path, overrides: &[String]) -> Result<RunPlan, ConfigError> {
    let (text, name) = (read_text(path)?, path.display().to_string());
    let source = Source::new(&text, &name, overrides)?;
    source.read::<RunConfig>()?.plan().map_err(|error| match error {
        ConfigError::Values(mistakes) => source.locate(&mistakes),
        other => other,
    })
}

/// The config as text that [`load`] reads back.
pub fn to_toml(config: &RunConfig) -> String {
    toml::to_string_pretty(config).expect("a config can be written as TOML")
}

/// The text of a file.
pub(super) fn read_text(path: &Path) -> Result<String, ConfigError> {
    eva_rl_agents::read_text(path)
        .map_err(|error| ConfigError::Read { path: path.to_owned(), reason: error.to_string() })
}

/// Reads TOML of a schema, with overrides; `name` says whose text it is.
pub(super) fn read<T>(text: &str, name: &str, overrides: &[String]) -> Result<T, ConfigError>
where
    T: DeserializeOwned + JsonSchema,
{
    Source::new(text, name, overrides)?.read()
}

/// What a document is made of, to say where a mistake in it comes from.
struct Source<'a> {
    name: &'a str,
    text: &'a str,
    written: Document<&'a str>,
    overrides: Vec<Override>,
}

impl<'a> Source<'a> {
    fn new(text: &'a str, name: &'a str, overrides: &[String]) -> Result<Self, ConfigError> {
        let written = Document::parse(text).map_err(|error| not_toml(&error, text, name))?;
        let overrides = overrides.iter().map(|text| Override::read(text)).collect::<Result<_, _>>()?;
        Ok(Self { name, text, written, overrides })
    }

    /// What the document and its overrides say together.
    fn read<T: DeserializeOwned + JsonSchema>(&self) -> Result<T, ConfigError> {
        let kind = Kind::of::<T>();
        let mut document: DocumentMut =
            self.text.parse().map_err(|error| not_toml(&error, self.text, self.name))?;
        self.overrides.iter().try_for_each(|given| given.apply(&mut document, &kind))?;
        let wrong = |reason: String| ConfigError::Parse { place: self.name.to_owned(), reason };
        let table: toml::Table =
            toml::from_str(&document.to_string()).map_err(|error| wrong(one_line(error.message())))?;
        let value = toml::Value::Table(table);
        let mistakes = mistakes::find(&kind, &value);
        if !mistakes.is_empty() {
            return Err(self.locate(&mistakes));
        }
        T::deserialize(value).map_err(|error| wrong(one_line(error.message())))
    }

    /// All mistakes, each with its place before it, in the order of the file; overrides come last.
    fn locate(&self, mistakes: &[Mistake]) -> ConfigError {
        let mut placed: Vec<(usize, String)> = mistakes.iter().map(|mistake| self.placed(mistake)).collect();
        placed.sort_by_key(|(place, _)| *place);
        let mistakes = placed.into_iter().map(|(_, text)| text).collect();
        ConfigError::Mistakes { name: self.name.to_owned(), mistakes }
    }

    /// The mistake with its place before it, and the byte of the file to sort it by.
    fn placed(&self, mistake: &Mistake) -> (usize, String) {
        let set = |given: &Override| (self.text.len(), format!("{given}: {}", mistake.text));
        let newest = || self.overrides.iter().rev();
        let by_override = |path: &Vec<String>| {
            let written = find(&self.written, path).is_some();
            newest().find(|given| path.starts_with(&given.path) || !written && given.path.starts_with(path))
        };
        if let Some(given) = mistake.paths.iter().find_map(by_override) {
            return set(given);
        }
        let path = &mistake.paths[mistake.paths.len() - 1];
        for length in (1..=path.len()).rev() {
            let above = &path[..length];
            if let Some(span) = find(&self.written, above) {
                return (
                    span.start,
                    format!("{}: {}", place(self.name, self.text, Some(span)), mistake.text),
                );
            }
            if let Some(given) = newest().find(|given| given.path.starts_with(above)) {
                return set(given);
            }
        }
        (0, format!("{}: {}", self.name, mistake.text))
    }
}

/// Where a key stands in a document.
fn find(document: &Document<&str>, path: &[String]) -> Option<std::ops::Range<usize>> {
    let (last, tables) = path.split_last()?;
    let mut item = document.as_item();
    for name in tables {
        item = child(item, name)?;
    }
    match item.as_table_like() {
        Some(table) => table.get_key_value(last)?.0.span(),
        None => child(item, last)?.span(),
    }
}

fn child<'a>(item: &'a Item, name: &str) -> Option<&'a Item> {
    match name.parse::<usize>() {
        Ok(index) if !item.is_table_like() => item.get(index),
        _ => item.get(name),
    }
}

/// `file:line:column` of the first byte of `span`.
fn place(name: &str, text: &str, span: Option<std::ops::Range<usize>>) -> String {
    let Some(before) = span.and_then(|span| text.get(..span.start)) else {
        return name.to_owned();
    };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("{name}:{line}:{column}")
}

fn not_toml(error: &toml_edit::TomlError, text: &str, name: &str) -> ConfigError {
    ConfigError::Parse { place: place(name, text, error.span()), reason: one_line(error.message()) }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
