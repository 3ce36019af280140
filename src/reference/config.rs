//! Every key of a config.

use serde_json::Value;

use crate::config::{Key, Kind, RunConfig};
use crate::support::tables::markdown;

/// The page of the keys.
pub fn page() -> String {
    let keys = Kind::of::<RunConfig>().into_keys();
    let mut page = Page::default();
    page.text += "# Config keys\n\n\
        A run is one TOML file. `eva-rl init` writes one to start from, `--set KEY=VALUE` changes a key, and \
        `--set KEY=` takes one out. A key whose default is *required* must be there; one without a default (–) may be \
        left out, with the effect that its meaning says. Every mistake in a config is told at once, with its line.\n";
    page.table("", &keys);
    for key in &keys {
        page.section(&key.name, key, 2);
    }
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
    /// The tables that are described, each with its heading: a table that stands in several places is described once.
    described: Vec<(Vec<Key>, String)>,
}

impl Page {
    /// What lies at `path`, where that is a table or a choice.
    fn section(&mut self, path: &str, key: &Key, level: usize) {
        let marks = "#".repeat(level.min(4));
        match &key.kind {
            Kind::Table(keys) if self.described_at(keys).is_none() => {
                let heading = format!("[{path}]");
                self.text += &format!("\n{marks} `{heading}`\n\n{}\n", key.docs);
                self.described.push((keys.clone(), heading));
                self.table(path, keys);
                self.inner_sections(path, keys, level);
            }
            Kind::Choice(options) if self.described_at(options).is_none() => {
                self.text += &format!("\n{marks} `{path}`\n\n{} Exactly one of:\n", key.docs);
                self.described.push((options.clone(), path.to_owned()));
                let mut rows = Vec::new();
                for option in options {
                    let keys = option.kind.keys();
                    let alike = options.iter().find(|other| other.kind == option.kind).unwrap_or(option);
                    let name = format!("`[{path}.{}]`", option.name);
                    let (name, keys) = match self.described_at(keys) {
                        _ if keys.is_empty() => {
                            (format!("`{path} = {{ {} = {{}} }}`", option.name), String::new())
                        }
                        Some(heading) => (name, format!(" Its keys are those of {}.", link(heading))),
                        None if alike.name == option.name => (link(&name[1..name.len() - 1]), String::new()),
                        None => {
                            let heading = format!("[{path}.{}]", alike.name);
                            (name, format!(" Its keys are those of {}.", link(&heading)))
                        }
                    };
                    rows.push(vec![name, format!("{}{keys}", option.docs)]);
                }
                self.text += &format!("\n{}\n", markdown(&["table", "what it chooses"], rows));
                for option in options.iter().filter(|option| !option.kind.keys().is_empty()) {
                    self.section(&format!("{path}.{}", option.name), option, level + 1);
                }
            }
            Kind::List(each) => {
                let one = Key { kind: (**each).clone(), ..key.clone() };
                self.section(&format!("{path}[]"), &one, level);
            }
            _ => {}
        }
    }

    fn inner_sections(&mut self, path: &str, keys: &[Key], level: usize) {
        for key in keys {
            self.section(&format!("{path}.{}", key.name), key, level + 1);
        }
    }

    fn described_at(&self, keys: &[Key]) -> Option<&str> {
        if keys.is_empty() {
            return Some("");
        }
        self.described.iter().find(|(known, _)| known == keys).map(|(_, heading)| heading.as_str())
    }

    /// The rows of the keys of one table.
    fn table(&mut self, path: &str, keys: &[Key]) {
        let mut rows = Vec::new();
        for key in keys {
            let inner = if path.is_empty() { key.name.clone() } else { format!("{path}.{}", key.name) };
            let value = match &key.kind {
                Kind::Table(keys) => link(self.described_at(keys).unwrap_or(&format!("[{inner}]"))),
                Kind::Choice(options) => {
                    format!("one of {}", link(self.described_at(options).unwrap_or(&inner)))
                }
                Kind::Map(_) => "a table of any keys".to_owned(),
                Kind::List(each) if matches!(**each, Kind::Table(_) | Kind::Choice(_)) => {
                    format!("a list of tables, {}", link(&format!("[{inner}[]]")))
                }
                kind => kind.expected(&inner),
            };
            let default = match (&key.default, key.required) {
                (_, true) => "*required*".to_owned(),
                (Some(default), false) => format!("`{}`", as_toml(default)),
                (None, false) => "–".to_owned(),
            };
            let words = match &key.kind {
                Kind::Words(words) => words,
                Kind::List(each) => match &**each {
                    Kind::Words(words) => words,
                    _ => &Vec::new(),
                },
                _ => &Vec::new(),
            };
            let mut meaning = key.docs.clone();
            for (word, docs) in words.iter().filter(|(_, docs)| !docs.is_empty() && *docs != key.docs) {
                meaning += &format!("<br>`{word:?}`: {docs}");
            }
            rows.push(vec![format!("`{}`", key.name), value, default, meaning]);
        }
        self.text += &format!("\n{}\n", markdown(&["key", "value", "default", "meaning"], rows));
    }
}

/// A link to a heading of this page.
fn link(heading: &str) -> String {
    let anchor: String =
        heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || matches!(c, '_' | '-')).collect();
    format!("[`{heading}`](#{anchor})")
}

/// A JSON value as a config has it.
fn as_toml(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let inner: Vec<String> =
                table.iter().map(|(name, value)| format!("{name} = {}", as_toml(value))).collect();
            if inner.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", inner.join(", ")) }
        }
        Value::Array(values) => {
            format!("[{}]", values.iter().map(as_toml).collect::<Vec<_>>().join(", "))
        }
        value => value.to_string(),
    }
}
