//! Everything in a document that its schema does not allow, found at once and said in plain words.

use toml::Value;

use super::renamed;
use super::schema::{Key, Kind, form, listed, nearest};
use super::target::TargetReturn;

/// Longest value that a message repeats whole.
const SHOWN: usize = 60;

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    /// Where it is: the path of the key to blame, and others that had a part in it.
    pub paths: Vec<Vec<String>>,
    /// What it is.
    pub text: String,
}

/// All of them.
pub(super) fn find(kind: &Kind, document: &Value) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    check(kind, document, &[], &mut mistakes);
    mistakes
}

fn check(kind: &Kind, value: &Value, path: &[String], mistakes: &mut Vec<Mistake>) {
    match (kind, value) {
        (Kind::Table(keys), Value::Table(table)) => check_keys(keys, table, path, mistakes),
        (Kind::Choice(options), Value::Table(table)) => check_choice(options, table, path, mistakes),
        (Kind::Map(each), Value::Table(table)) => {
            table.iter().for_each(|(name, value)| check(each, value, &below(path, name), mistakes));
        }
        (Kind::List(each), Value::Array(values)) => {
            for (index, value) in values.iter().enumerate() {
                check(each, value, &below(path, &index.to_string()), mistakes);
            }
        }
        (Kind::Words(words), Value::String(text)) if words.iter().any(|(word, _)| word == text) => {}
        (Kind::Whole { min, max }, Value::Integer(number))
            if min.is_none_or(|min| min <= *number) && max.is_none_or(|max| *number <= max) => {}
        (Kind::Number { range, .. }, Value::Integer(number)) if range.contains(*number as f64) => {}
        (Kind::Number { range, .. }, Value::Float(number)) if range.contains(*number) => {}
        (Kind::Target, Value::Integer(_)) => {}
        (Kind::Target, Value::Float(number)) if (*number as f32).is_finite() => {}
        (Kind::Target, Value::String(text)) if text.parse::<TargetReturn>().is_ok() => {}
        (Kind::Text, Value::String(_)) | (Kind::Flag, Value::Boolean(_)) | (Kind::Anything, _) => {}
        _ => {
            let key = dotted(path);
            let now = value.as_str().and_then(|word| renamed::word(path, word));
            let now = now.map_or(String::new(), |now| format!(", which is now called \"{now}\""));
            let text = format!("`{key}`: expected {}, found {}{now}", kind.expected(&key), shown(value));
            mistakes.push(Mistake { paths: vec![path.to_owned()], text });
        }
    }
}

fn check_keys(keys: &[Key], table: &toml::Table, path: &[String], mistakes: &mut Vec<Mistake>) {
    let mut missing: Vec<&Key> =
        keys.iter().filter(|key| key.required && !table.contains_key(&key.name)).collect();
    for (name, value) in table {
        if let Some(key) = keys.iter().find(|key| key.name == *name) {
            check(&key.kind, value, &below(path, name), mistakes);
            continue;
        }
        let whose = if path.is_empty() { "a config" } else { &format!("[{}]", dotted(path)) };
        let now = renamed::key(path, name);
        let meant = now.or_else(|| nearest(name, keys.iter().map(|key| key.name.as_str())));
        missing.retain(|key| Some(key.name.as_str()) != meant); // one mistake, not two
        let hint = match (now, meant) {
            (Some(now), _) => format!("it is now called `{now}`"),
            (None, Some(meant)) => format!("did you mean `{meant}`?"),
            (None, None) if keys.is_empty() => format!("{whose} has no keys"),
            (None, None) => format!("{whose} has {}", listed(keys.iter())),
        };
        let path = below(path, name);
        let text = format!("unknown key `{}`; {hint}", dotted(&path));
        mistakes.push(Mistake { paths: vec![path], text });
    }
    for key in missing {
        let path = below(path, &key.name);
        let name = dotted(&path);
        let inner: Vec<&Key> = key.kind.keys().iter().filter(|key| key.required).collect();
        let text = match &key.kind {
            Kind::Table(_) if !inner.is_empty() => {
                format!("missing table [{name}] with {}", listed(inner.into_iter()))
            }
            Kind::Choice(options) if name.contains('.') => {
                format!(
                    "missing key `{name}`, one of {}; such as {}",
                    listed(options.iter()),
                    form(&options[0], &key.name)
                )
            }
            Kind::Choice(options) => {
                let tables: Vec<String> =
                    options.iter().map(|option| format!("[{name}.{}]", option.name)).collect();
                format!("missing table `{name}`: expected one of {}", tables.join(", "))
            }
            kind => format!("missing key `{name}`, {} ({})", kind.expected(&name), key.docs),
        };
        mistakes.push(Mistake { paths: vec![path], text });
    }
}

fn check_choice(options: &[Key], table: &toml::Table, path: &[String], mistakes: &mut Vec<Mistake>) {
    let key = dotted(path);
    let mut mistake = |paths, text| mistakes.push(Mistake { paths, text });
    let known = |name: &String| options.iter().find(|option| option.name == *name);
    match table.keys().collect::<Vec<_>>().as_slice() {
        [] => {
            let tables: Vec<String> =
                options.iter().map(|option| format!("[{key}.{}]", option.name)).collect();
            mistake(
                vec![path.to_owned()],
                format!("`{key}` is empty: expected one of {}", tables.join(", ")),
            );
        }
        [name] => match known(name) {
            Some(option) => check(&option.kind, &table[*name], &below(path, name), mistakes),
            None => {
                let hint = match renamed::key(path, name) {
                    Some(now) => format!("it is now called `{now}`; "),
                    None => nearest(name, options.iter().map(|option| option.name.as_str()))
                        .map_or(String::new(), |meant| format!("did you mean `{meant}`? ")),
                };
                let text =
                    format!("`{key}` holds `{name}`; {hint}expected one of {}", listed(options.iter()));
                mistake(vec![below(path, name)], text);
            }
        },
        names => {
            let held: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let held = match held.as_slice() {
                [one, other] => format!("both {one} and {other}"),
                several => several.join(", "),
            };
            let example = names.iter().rev().find_map(|name| known(name)).unwrap_or(&options[0]);
            let text = format!(
                "`{key}` holds {held}; keep one, e.g. --set '{}' instead of the whole table",
                form(example, &key).replacen(" = ", "=", 1)
            );
            mistake(names.iter().map(|name| below(path, name)).collect(), text);
        }
    }
}

fn below(path: &[String], name: &str) -> Vec<String> {
    [path, &[name.to_owned()]].concat()
}

/// `axes[0].choices` of `["axes", "0", "choices"]`.
fn dotted(path: &[String]) -> String {
    let mut key = String::new();
    for name in path {
        match name.parse::<usize>() {
            Ok(index) if !key.is_empty() => key += &format!("[{index}]"),
            _ if key.is_empty() => key += name,
            _ => key += &format!(".{name}"),
        }
    }
    key
}

/// A value as TOML, cut where it is long.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Table(table) if table.is_empty() => "an empty table".to_owned(),
        Value::Table(table) => {
            let names: Vec<String> = table.keys().map(|name| format!("`{name}`")).collect();
            format!("a table with {}", names.join(", "))
        }
        value => value.to_string(),
    };
    match text.char_indices().nth(SHOWN) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
