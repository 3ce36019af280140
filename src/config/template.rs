//! A config as text for its owner to go on with: every key, with its documentation before it.

use toml::{Table, Value};

use super::run::RunConfig;
use super::schema::{Key, Kind};

/// The config with every key commented; what is absent stands in comments.
pub fn commented(config: &RunConfig, heading: &str) -> String {
    let value = Value::try_from(config).expect("a config can be written as TOML");
    let table = value.as_table().expect("a config is a table");
    let mut text: String = heading.lines().map(|line| format!("# {line}\n")).collect();
    text += "\n";
    write(Kind::of::<RunConfig>().keys(), table, "", &mut text);
    text
}

/// The keys of a table, and the tables in it after them, as TOML wants it.
fn write(keys: &[Key], table: &Table, path: &str, text: &mut String) {
    let (inner, plain): (Vec<&Key>, Vec<&Key>) =
        keys.iter().partition(|key| matches!(key.kind, Kind::Table(_) | Kind::Choice(_)));
    for key in plain {
        *text += &match &key.kind {
            Kind::Words(_) => format!("# {} It is {}.\n", key.docs, key.kind.expected(&key.name)),
            _ => format!("# {}\n", key.docs),
        };
        *text += &match table.get(&key.name) {
            Some(value) => format!("{} = {}\n", key.name, shown(&key.kind, value)),
            None => format!("# {} = …\n", key.name),
        };
    }
    for key in inner {
        let path = if path.is_empty() { key.name.clone() } else { format!("{path}.{}", key.name) };
        *text += &format!("\n# {}\n", key.docs);
        let options: Vec<String> = match &key.kind {
            Kind::Choice(options) => {
                options.iter().map(|option| format!("[{path}.{}]", option.name)).collect()
            }
            _ => vec![format!("[{path}]")],
        };
        let given = table.get(&key.name).and_then(Value::as_table);
        match (&key.kind, given) {
            (_, None) => *text += &format!("# {}\n", options.join(", ")),
            (Kind::Choice(choices), Some(given)) => {
                if options.len() > 1 {
                    *text += &format!("# One of {}.\n", options.join(", "));
                }
                let chosen = choices.iter().find_map(|option| Some((option, given.get(&option.name)?)));
                let (option, value) = chosen.expect("a config holds one of its choices");
                let (path, inner) = (format!("{path}.{}", option.name), value.as_table());
                *text += &format!("# {}\n[{path}]\n", option.docs);
                write(option.kind.keys(), inner.expect("a choice is a table"), &path, text);
            }
            (_, Some(given)) => {
                *text += &format!("[{path}]\n");
                write(key.kind.keys(), given, &path, text);
            }
        }
    }
}

/// A value as TOML, with no more digits than it has.
fn shown(kind: &Kind, value: &Value) -> String {
    match (kind, value) {
        (Kind::Number { single: true, .. }, Value::Float(number)) => format!("{:?}", *number as f32),
        (Kind::List(each), Value::Array(values)) => {
            let values: Vec<String> = values.iter().map(|value| shown(each, value)).collect();
            format!("[{}]", values.join(", "))
        }
        (_, value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::load::{load, read};
    use super::*;

    #[test]
    fn a_commented_config_is_read_back_and_every_key_has_its_comment() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if !path.is_file() {
                continue;
            }
            let config = load(&path, &[]).unwrap();
            let text = commented(&config, "A config.");
            assert_eq!(read::<RunConfig>(&text, "commented", &[]).unwrap(), config, "{path:?}");
            let lines: Vec<&str> = text.lines().collect();
            for pair in lines.windows(2).filter(|pair| !pair[1].starts_with('#') && !pair[1].is_empty()) {
                assert!(pair[0].starts_with("# ") && pair[0].len() > 4, "{path:?}: {pair:?}");
            }
            count += 1;
        }
        assert!(count > 10);
    }
}
