//! The rules that ARCHITECTURE.md states about the sources.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust source below a folder.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty());
    found
}

#[track_caller]
fn check_absent(folder: &str, words: &[&str]) {
    for (path, text) in sources(folder) {
        for word in words {
            assert!(!text.contains(word), "{path:?} mentions `{word}`");
        }
    }
}

#[test]
fn environments_see_no_tensors() {
    check_absent("envs/src", &["use tch", " tch::", "eva_rl_agents"]);
    let manifest = fs::read_to_string(root().join("envs/Cargo.toml")).unwrap();
    assert!(!manifest.contains("tch"));
}

#[test]
fn agents_see_no_environments_and_no_command_line() {
    check_absent("agents/src", &["eva_rl_envs", "clap::", "toml::", "anyhow::", "gymnasium"]);
}

#[test]
fn principal_components_know_no_model() {
    for (path, text) in sources("agents/src/pca") {
        let code = text.split("#[cfg(test)]").next().unwrap();
        let others = code.matches("crate::").count() - code.matches("crate::tensor::").count();
        assert_eq!(others, 0, "{path:?}");
    }
}

#[test]
fn only_config_sees_toml() {
    for (path, text) in sources("src") {
        let inside = path.starts_with(root().join("src/config"));
        assert!(inside || !text.contains("toml::") && !text.contains("toml_edit::"), "{path:?} sees TOML");
    }
}

#[test]
fn nothing_below_the_commands_calls_them() {
    for (path, text) in sources("src") {
        let above = path.starts_with(root().join("src/commands")) || path.ends_with("src/main.rs");
        assert!(above || !text.contains("crate::commands"), "{path:?} calls a command");
    }
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    for folder in ["src", "agents/src", "envs/src", "tests"] {
        for (path, text) in sources(folder) {
            assert!(text.starts_with("//! "), "{path:?}");
        }
    }
}

/// A function of `agents` that takes a tensor says its shape in its docs or on its first lines.
#[test]
fn functions_that_take_tensors_say_their_shapes() {
    for (path, text) in sources("agents/src") {
        let code = text.split("#[cfg(test)]").next().unwrap();
        let lines: Vec<&str> = code.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let is_function =
                line.trim_start().starts_with("pub fn ") || line.trim_start().starts_with("fn ");
            let end = (number..lines.len()).find(|end| lines[*end].contains(['{', ';'])).unwrap_or(number);
            let signature = lines[number..=end].join(" ");
            // An unnamed tensor is not looked at.
            let arguments = signature.split("->").next().unwrap().replace("_: &Tensor", "");
            if !is_function || !arguments.contains("&Tensor") {
                continue;
            }
            let docs = lines[..number].iter().rev().take_while(|line| line.trim_start().starts_with("//"));
            let body = lines[end + 1..].iter().take(4);
            let said = docs.chain(body).any(|line| line.contains("`[") || line.contains("// ["));
            assert!(said, "{path:?}:{}: {signature} says no shape", number + 1);
        }
    }
}
