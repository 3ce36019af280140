//! The rules that ARCHITECTURE.md states about the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::imports::Imports;

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
        let known = ["crate::tensor::", "crate::ranks::"].map(|known| code.matches(known).count());
        let others = code.matches("crate::").count() - known.iter().sum::<usize>();
        assert_eq!(others, 0, "{path:?}");
    }
}

/// Files that lie in no folder of their own are few.
#[test]
fn loose_files_are_few() {
    for (folder, most) in [("src", 5), ("agents/src", 2), ("envs/src", 4)] {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let loose: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|e| e == "rs")).collect();
        assert!(loose.len() <= most, "{folder} has more than {most} loose files: {loose:?}");
    }
}

#[test]
fn no_files_or_folders_import_each_other_in_a_circle() {
    for crate_folder in ["src", "agents/src", "envs/src"] {
        let files = sources(crate_folder);
        let root = root().join(crate_folder);
        let imports =
            Imports::of(files.iter().map(|(path, text)| (path.strip_prefix(&root).unwrap(), text.as_str())));
        assert!(
            imports.edges.values().map(BTreeSet::len).sum::<usize>() > 100,
            "{crate_folder}: few imports found"
        );
        assert_eq!(imports.circle_of_files(), None, "{crate_folder}");
        assert_eq!(imports.circle_of_folders(), None, "{crate_folder}");
    }
}

#[test]
fn circles_are_found() {
    let circle = |files: &[(&str, &str)]| {
        let imports = Imports::of(files.iter().map(|(path, text)| (Path::new(*path), *text)));
        (imports.circle_of_files().is_some(), imports.circle_of_folders().is_some())
    };
    let lib = ("lib.rs", "mod a; mod b;");
    assert_eq!(circle(&[lib, ("a.rs", "use crate::b::B;"), ("b.rs", "")]), (false, false));
    assert_eq!(circle(&[lib, ("a.rs", "use crate::b::B;"), ("b.rs", "use crate::a::A;")]), (true, false));
    let nested = "use crate::{b::{C, B}, c};";
    assert_eq!(circle(&[lib, ("a.rs", nested), ("b.rs", "fn f() { crate::a::g() }")]), (true, false));
    // What a test imports does not count.
    let in_test = "#[cfg(test)] mod tests { use crate::a::A; }";
    assert_eq!(circle(&[lib, ("a.rs", "use crate::b::B;"), ("b.rs", in_test)]), (false, false));
    // A file that only re-exports stands for what it re-exports.
    let folder = [lib, ("a/mod.rs", "mod x; pub use x::X;"), ("a/x.rs", "use crate::b::B;")];
    assert_eq!(circle(&[&folder[..], &[("b.rs", "")]].concat()), (false, false));
    assert_eq!(circle(&[&folder[..], &[("b.rs", "use crate::a::X;")]].concat()), (true, false));
    // Whose children use it, defines nothing that they need.
    let parent = [lib, ("a/mod.rs", "mod x; pub use x::X; pub struct Y;"), ("a/x.rs", "use super::Y;")];
    assert_eq!(circle(&parent), (true, false));
    let folders = [
        lib,
        ("a/mod.rs", "pub mod x; pub mod z;"),
        ("a/x.rs", "use crate::b::y::Y;"),
        ("a/z.rs", ""),
        ("b/mod.rs", "pub mod w; pub mod y;"),
        ("b/w.rs", "use crate::a::z::Z;"),
        ("b/y.rs", ""),
    ];
    assert_eq!(circle(&folders), (false, true));
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
    let of_tests = |path: &Path| path.ends_with("tests.rs") || path.ends_with("testing.rs");
    for (path, text) in sources("agents/src").into_iter().filter(|(path, _)| !of_tests(path)) {
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
