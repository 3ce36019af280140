//! Where two configs differ, key by key.

use std::fmt;

use eva_rl_envs::is_bridged;
use toml::Value;

use super::run::RunConfig;

/// A key that two configs give different values.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Such as `offline.updates`; a table where both chose different ones of it.
    pub key: String,
    before: String,
    now: String,
}

impl Difference {
    /// The difference as a change.
    pub fn change(&self) -> String {
        format!("`{}` from {} to {}", self.key, self.before, self.now)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is {} there and {} here", self.key, self.before, self.now)
    }
}

/// Every difference between a config as it was run and one as it is now.
pub fn differences(before: &RunConfig, now: &RunConfig) -> Vec<Difference> {
    let value = |config: &RunConfig| {
        let mut config = config.clone();
        if is_bridged(&config.env.id) {
            config.env.bridge = Some(config.env.bridge(false)); // to say the defaults is no difference
        }
        Value::try_from(config).expect("a config can be written as TOML")
    };
    let mut found = Vec::new();
    compare("", Some(&value(before)), Some(&value(now)), &mut found);
    found
}

fn compare(key: &str, before: Option<&Value>, now: Option<&Value>, found: &mut Vec<Difference>) {
    if before == now {
        return;
    }
    if let (Some(Value::Table(old)), Some(Value::Table(new))) = (before, now) {
        let other_choice = old.len() == 1 && new.len() == 1 && old.keys().ne(new.keys());
        if !other_choice {
            let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                compare(&key, old.get(name), new.get(name), found);
            }
            return;
        }
    }
    found.push(Difference { key: key.to_owned(), before: shown(before), now: shown(now) });
}

/// A value on one line; of a table the names.
fn shown(value: Option<&Value>) -> String {
    match value {
        None => "absent".to_owned(),
        Some(Value::Table(table)) => {
            table.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        }
        Some(value) => value.to_string(),
    }
}
