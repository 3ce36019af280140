//! Reads a config, with `--set` overrides edited into the text before its schema is applied.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml_edit::{DocumentMut, Item, Table, Value};

use super::{ConfigError, RunConfig};

/// Reads a config file and applies overrides `a.b=1` to it, in order.
pub fn load(path: &Path, overrides: &[String]) -> Result<RunConfig, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|error| ConfigError::Read { path: path.to_owned(), reason: error.to_string() })?;
    let name = path.display().to_string();
    if overrides.is_empty() {
        return parse(&text, &name);
    }
    // A mistake in the file itself is told with its own line, before the overrides move lines.
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        ConfigError::Parse { place: place(&name, &text, error.span()), reason: one_line(error.message()) }
    })?;
    for text in overrides {
        apply(&mut document, text)?;
    }
    parse(&document.to_string(), &format!("{name} with --set {}", overrides.join(" --set ")))
}

/// The config as text that [`load`] reads back.
pub fn to_toml(config: &RunConfig) -> String {
    toml::to_string_pretty(config).expect("a config can be written as TOML")
}

/// Reads TOML of a schema; `name` says whose text it is.
pub(super) fn parse<T: DeserializeOwned>(text: &str, name: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Parse {
        place: place(name, text, error.span()),
        reason: one_line(error.message()),
    })
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

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Sets one key; `adapter.lora.rank=4` makes the tables on its way where they are missing.
fn apply(document: &mut DocumentMut, text: &str) -> Result<(), ConfigError> {
    let refuse = |reason: &str| ConfigError::Override { text: text.to_owned(), reason: reason.to_owned() };
    let (path, value) =
        text.split_once('=').ok_or_else(|| refuse("no `=`; write KEY=VALUE, such as seed=2"))?;
    // What is no TOML value is a bare string, so that quotes are not needed twice in a shell.
    let value: Value = value.trim().parse().unwrap_or_else(|_| Value::from(value.trim()));
    let keys: Vec<&str> = path.trim().split('.').map(str::trim).collect();
    let (last, tables) = keys.split_last().expect("splitting gives at least one part");
    let mut table: &mut dyn toml_edit::TableLike = document.as_table_mut();
    for key in tables {
        let item = table.entry(key).or_insert_with(|| Item::Table(Table::new()));
        table = item.as_table_like_mut().ok_or_else(|| refuse(&format!("`{key}` is no table")))?;
    }
    table.insert(last, Item::Value(value));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{AdapterConfig, SweepPlan};

    const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/demo.toml");

    fn load_demo(overrides: &[&str]) -> Result<RunConfig, ConfigError> {
        let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
        load(Path::new(DEMO), &overrides)
    }

    #[track_caller]
    fn check_refused(overrides: &[&str], parts: &[&str]) {
        let message = match load_demo(overrides).and_then(RunConfig::plan) {
            Ok(_) => panic!("{overrides:?} was taken"),
            Err(error) => error.to_string(),
        };
        for part in parts {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
        assert!(!message.contains('\n'), "{message:?} is more than a line");
    }

    #[test]
    fn every_config_in_the_repository_is_a_plan() {
        // Their own paths are relative to this folder, in which cargo runs tests.
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let configs = |folder: &str| -> Vec<PathBuf> {
            let entries = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
            entries.filter(|path| path.is_file()).collect()
        };
        let (runs, sweeps) = (configs("configs"), configs("configs/sweeps"));
        assert!(runs.len() >= 4 && !sweeps.is_empty());
        runs.iter().for_each(|path| assert!(load(path, &[]).unwrap().plan().is_ok(), "{path:?}"));
        sweeps.iter().for_each(|path| assert!(!SweepPlan::read(path).unwrap().runs.is_empty(), "{path:?}"));
    }

    #[test]
    fn a_written_config_is_read_back() {
        let config = load_demo(&[]).unwrap();
        assert_eq!(parse::<RunConfig>(&to_toml(&config), "again").unwrap(), config);
    }

    #[test]
    fn overrides_are_typed_by_the_schema() {
        let config = load_demo(&["seed=7", "adapter.eva.lora.rank=2", "env.id=CartPole-v1"]).unwrap();
        let AdapterConfig::Eva(eva) = &config.adapter else { panic!("the demo uses EVA") };
        assert_eq!((config.seed, eva.lora.rank.get(), config.env.id.as_str()), (7, 2, "CartPole-v1"));
        check_refused(&["seed=two"], &["--set seed=two", "invalid type"]);
        check_refused(&["seed"], &["KEY=VALUE"]);
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("misspelt.toml");
        fs::write(&path, fs::read_to_string(DEMO).unwrap().replace("max_batches", "max_batchs")).unwrap();
        let message = load(&path, &[]).unwrap_err().to_string();
        assert!(message.contains("misspelt.toml:"), "{message}");
        assert!(
            message.contains("unknown field `max_batchs`") && message.contains("`max_batches`"),
            "{message}"
        );
    }

    #[test]
    fn values_that_cannot_be_are_named() {
        check_refused(&["adapter.eva.rho=0.5"], &["adapter.eva.rho", "0.5", "[1, 1000]"]);
        check_refused(&["adapter.eva.tau=0.0"], &["adapter.eva.tau", "(0, 1]"]);
        check_refused(&["adapter.eva.lora.rank=0"], &["rank must be at least 1"]);
        let few = ["optimiser.batch_size=1", "adapter.eva.max_batches=5"];
        check_refused(&few, &["optimiser.batch_size", "5", "a token for each of rho"]);
        // Enough for three kinds of tokens, and not for one.
        let few = ["optimiser.batch_size=1", "adapter.eva.max_batches=8"];
        assert!(load_demo(&few).unwrap().plan().is_ok());
        check_refused(
            &[&few[..], &["adapter.eva.tokens=[\"state\"]"]].concat(),
            &["max_batches", "8", "a token for each"],
        );
        check_refused(&["env.num_envs=0"], &["env.num_envs"]);
        check_refused(&["evaluation.target_returns=[inf]"], &["evaluation.target_returns", "finite"]);
        check_refused(&["env.target_return=nan"], &["env.target_return", "finite"]);
        check_refused(&["rollout.max_return_to_go=inf"], &["rollout.max_return_to_go", "finite"]);
        let grpo = "online={ grpo = { group_size = 5, discount = 0.9, clip = 0.2, exploration = { rounds = 1, updates_per_round = 1 } } }";
        assert!(load_demo(&[grpo]).unwrap().plan().is_ok());
        check_refused(
            &[grpo, "rollout.inference=window"],
            &["rollout.inference", "window", "cached", "online.grpo"],
        );
    }
}
