//! Which modules of a crate import which, read off the `use` lines and the `crate::` paths of its sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A module by its path: `["data", "minari"]`.
type Module = Vec<String>;

/// The imports of a crate's files. The code of tests does not count.
///
/// A file that only declares and re-exports modules stands for what it re-exports, and the crate's root for nothing.
#[derive(Debug, Default)]
pub struct Imports {
    files: BTreeMap<Module, PathBuf>,
    /// The path behind each name that a module re-exports.
    exports: BTreeMap<Module, BTreeMap<String, Module>>,
    /// From each file to those whose items it names.
    pub edges: BTreeMap<Module, BTreeSet<Module>>,
}

impl Imports {
    /// Reads the files of a crate, each with its path below the crate's `src`.
    pub fn of<'a>(sources: impl Iterator<Item = (&'a Path, &'a str)>) -> Self {
        let mut imports = Self::default();
        let mut texts = BTreeMap::new();
        for (path, text) in sources {
            let module = module_of(path);
            imports.files.insert(module.clone(), path.to_owned());
            texts.insert(module, without_comments(&without_tests(text)));
        }
        for (module, text) in &texts {
            for (public, tree) in uses(text) {
                for path in expand(&tree).into_iter().filter(|_| public) {
                    let name = path.last().expect("a path has a last name").clone();
                    imports.exports.entry(module.clone()).or_default().insert(name, path);
                }
            }
        }
        let transparent =
            |module: &Module| module.is_empty() || texts.get(module).is_some_and(|text| only_reexports(text));
        for (module, text) in texts.iter().filter(|(module, _)| !transparent(module)) {
            let mut paths: Vec<Module> = uses(text).iter().flat_map(|(_, tree)| expand(tree)).collect();
            paths.extend(paths_in_code(text));
            let found = paths.iter().filter_map(|path| imports.resolve(module, path, 0));
            let found = found.filter(|other| other != module && !transparent(other));
            let found: BTreeSet<Module> = found.filter(|other| imports.files.contains_key(other)).collect();
            imports.edges.insert(module.clone(), found);
        }
        imports
    }

    /// The module in which a path's item lies, seen from `from`; none where it is another crate's.
    fn resolve(&self, from: &Module, path: &[String], depth: usize) -> Option<Module> {
        let (mut base, mut rest) = match path.first()?.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => {
                let ups = path.iter().take_while(|name| *name == "super").count();
                (from[..from.len().checked_sub(ups)?].to_vec(), &path[ups..])
            }
            first if self.files.contains_key(&[&from[..], &[first.to_owned()]].concat()) => {
                (from.clone(), path)
            }
            _ => return None,
        };
        while let Some((name, later)) = rest.split_first() {
            let below = [&base[..], std::slice::from_ref(name)].concat();
            if !self.files.contains_key(&below) {
                break;
            }
            (base, rest) = (below, later);
        }
        let behind = rest.first().and_then(|name| self.exports.get(&base)?.get(name));
        match behind {
            Some(behind) if depth < 8 => self.resolve(&base, behind, depth + 1).or(Some(base)),
            _ => Some(base),
        }
    }

    /// Files that import one another in a circle, if there are any.
    pub fn circle_of_files(&self) -> Option<Vec<String>> {
        circle(&self.edges).map(|circle| circle.iter().map(|module| module.join("::")).collect())
    }

    /// The same of folders; a file counts to the folder that it lies in.
    pub fn circle_of_folders(&self) -> Option<Vec<PathBuf>> {
        let folder = |module: &Module| self.files[module].parent().unwrap_or(Path::new("")).to_owned();
        let mut edges: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
        for (from, others) in &self.edges {
            let others = others.iter().map(folder).filter(|other| *other != folder(from));
            // Files in no folder stand for themselves.
            let named = |folder: &PathBuf| !folder.as_os_str().is_empty();
            if named(&folder(from)) {
                edges.entry(folder(from)).or_default().extend(others.filter(named));
            }
        }
        circle(&edges)
    }
}

/// Nodes on a way back to themselves.
fn circle<N: Ord + Clone>(edges: &BTreeMap<N, BTreeSet<N>>) -> Option<Vec<N>> {
    for start in edges.keys() {
        let mut way_to: BTreeMap<&N, &N> = BTreeMap::new();
        let mut open = vec![start];
        while let Some(node) = open.pop() {
            for next in edges.get(node).into_iter().flatten() {
                if next == start {
                    let mut circle = vec![node.clone()];
                    let mut at = node;
                    while at != start {
                        at = way_to[at];
                        circle.push(at.clone());
                    }
                    circle.reverse();
                    return Some(circle);
                }
                if !way_to.contains_key(next) {
                    way_to.insert(next, node);
                    open.push(next);
                }
            }
        }
    }
    None
}

fn module_of(path: &Path) -> Module {
    let mut names: Module =
        path.with_extension("").iter().map(|name| name.to_string_lossy().into_owned()).collect();
    if names.last().is_some_and(|name| ["mod", "lib", "main"].contains(&name.as_str())) {
        names.pop();
    }
    names
}

/// A source without the items below `#[cfg(test)]`.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        kept += before;
        let (opens, ends) = (after.find('{'), after.find(';'));
        let end = match (opens, ends) {
            (Some(opens), Some(ends)) if ends < opens => ends + 1,
            (None, Some(ends)) => ends + 1,
            (Some(opens), _) => closing(after, opens),
            (None, None) => after.len(),
        };
        rest = &after[end..];
    }
    kept + rest
}

/// The place after the brace that closes the one at `open`.
fn closing(text: &str, open: usize) -> usize {
    let mut depth = 0;
    for (place, letter) in text[open..].char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + place + 1;
        }
    }
    text.len()
}

fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The trees of a source's `use` lines, each with whether it is public.
fn uses(text: &str) -> Vec<(bool, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(place) = rest.find("use ") {
        let before = &rest[..place];
        let starts = before
            .chars()
            .next_back()
            .is_none_or(|letter| letter.is_whitespace() || letter == '}' || letter == ';');
        let line = before.rsplit(['\n', ';', '}', '{']).next().unwrap_or_default().trim();
        let after = &rest[place + 4..];
        let Some(end) = after.find(';') else { break };
        if starts && (line.is_empty() || line.starts_with("pub")) {
            found.push((line.starts_with("pub"), after[..end].to_owned()));
        }
        rest = after;
    }
    found
}

/// `a::{b, c::{d}}` as `a::b` and `a::c::d`.
fn expand(tree: &str) -> Vec<Module> {
    let tree = tree.trim();
    let names = |path: &str| -> Module {
        let path = path.split(" as ").next().unwrap_or_default();
        path.split("::").map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    let Some(open) = tree.find('{') else { return vec![names(tree)] };
    let prefix = names(&tree[..open]);
    let inner = &tree[open + 1..closing(tree, open) - 1];
    let (mut parts, mut depth, mut part) = (Vec::new(), 0, String::new());
    for letter in inner.chars() {
        match letter {
            ',' if depth == 0 => parts.push(std::mem::take(&mut part)),
            _ => {
                depth += i32::from(letter == '{') - i32::from(letter == '}');
                part.push(letter);
            }
        }
    }
    parts.push(part);
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    let below = parts.flat_map(|part| expand(part)).map(|path| [&prefix[..], &path[..]].concat());
    below.map(|path| path.into_iter().filter(|name| name != "self" || prefix.is_empty()).collect()).collect()
}

/// Paths such as `crate::data::read` outside of `use` lines.
fn paths_in_code(text: &str) -> Vec<Module> {
    let is_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    let words = text.split(|letter: char| !is_path(letter));
    let paths =
        words.filter(|word| ["crate::", "super::", "self::"].iter().any(|start| word.starts_with(start)));
    paths.map(|path| path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect()).collect()
}

/// Whether a source only declares and re-exports modules.
fn only_reexports(text: &str) -> bool {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("#["));
    let text = lines.collect::<Vec<_>>().join(" ");
    let mut items = text.split(';').map(str::trim).filter(|item| !item.is_empty());
    let is_module = |item: &str| item.starts_with("mod ") || item.starts_with("pub mod ");
    text.contains("mod ")
        && items.all(|item| is_module(item) || item.starts_with("pub") && item.contains(" use "))
}
