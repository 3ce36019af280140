//! Which files of a repository are taken: those that the readers of policies and adapters look at.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use eva_rl_agents::model::TokenizerFiles;
use serde_json::Value;

use super::error::HubError;
use super::name::{HubName, is_safe};

/// JSON beside the weights: `agents/src/model/hub`, `agents/src/adapter/peft` and `report/eva_summary.rs` read it.
const JSON: [&str; 6] =
    ["config.json", "statistics.json", "metadata.json", "adapter_config.json", "eva_rl.json", "eva.json"];

/// Weights, by the stems and in the order in which `TensorFile::find` looks for them.
const WEIGHTS: [(&str, &str); 6] = [
    ("model", "safetensors"),
    ("pytorch_model", "bin"),
    ("model", "pth"),
    ("adapter_model", "safetensors"),
    ("adapter_model", "bin"),
    ("adapter_model", "pth"),
];

/// Ends of files of weights that are taken where they are named.
const ENDS: [&str; 5] = ["safetensors", "bin", "pth", "pt", "ckpt"];

/// The end of an index of shards.
const INDEX: &str = ".index.json";

/// The files that `name` means among all `files` of its repository; a sentence where there are none.
pub fn wanted(name: &HubName, files: &[String]) -> Result<Vec<String>, HubError> {
    if let Some(file) = files.iter().find(|file| !is_safe(file)) {
        let text =
            format!("hf:{} lists the file {file:?}, whose path is none within a repository", name.repo);
        return Err(HubError::Failed(text));
    }
    let below = name.subfolder.as_deref().unwrap_or_default();
    let named = files.iter().any(|file| file == below);
    let (folder, weights) = match below.rsplit_once('/') {
        _ if !named => (below, None),
        Some((folder, file)) => (folder, Some(file)),
        None => ("", Some(below)),
    };
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let inside: Vec<&str> = files
        .iter()
        .filter_map(|file| file.strip_prefix(&prefix))
        .filter(|file| !file.contains('/'))
        .collect();
    let mut found: Vec<&str> = JSON.into_iter().filter(|json| inside.contains(json)).collect();
    match weights {
        Some(file) if is_weights(file) => found.push(file),
        Some(file) => {
            let text = format!(
                "{name} is the file `{file}`, expected a folder, or weights that end in .safetensors, .bin, .pth or .pt"
            );
            return Err(HubError::Input(text));
        }
        None => {
            let of_policy = weights_in(&inside, &WEIGHTS[..3]);
            let of_adapter = weights_in(&inside, &WEIGHTS[3..]);
            if of_policy.is_none() && of_adapter.is_none() {
                return Err(HubError::Input(format!(
                    "{name} has no weights of a policy or an adapter{}",
                    elsewhere(name, files)
                )));
            }
            found.extend(of_policy.into_iter().chain(of_adapter));
        }
    }
    // Of a policy; an adapter's is its policy's.
    if found.contains(&"config.json") {
        found.extend(TokenizerFiles::among(&inside));
    }
    Ok(found.into_iter().map(|file| format!("{prefix}{file}")).collect())
}

/// The first of `kinds` that is there: one file, or an index, whose shards are known once it is read.
fn weights_in<'a>(inside: &[&'a str], kinds: &[(&str, &str)]) -> Option<&'a str> {
    let names = kinds.iter().flat_map(|(stem, end)| {
        let whole = format!("{stem}.{end}");
        [whole.clone(), format!("{whole}{INDEX}")]
    });
    names.into_iter().find_map(|name| inside.iter().find(|file| **file == name).copied())
}

/// The files of weights that the indices among `files`, which lie in `folder`, name, beside themselves.
pub fn shards(folder: &Path, files: &[String]) -> Vec<String> {
    let mut found = BTreeSet::new();
    for index in files.iter().filter(|file| file.ends_with(INDEX)) {
        let text = fs::read(folder.join(index)).unwrap_or_default();
        let table: Value = serde_json::from_slice(&text).unwrap_or_default();
        let beside = index.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let names =
            table["weight_map"].as_object().into_iter().flatten().filter_map(|(_, shard)| shard.as_str());
        // Readers refuse an index that names a path, or what is no file of weights.
        let names = names.filter(|name| is_safe(name) && !name.contains('/') && is_weights(name));
        found.extend(names.map(|name| format!("{beside}{name}")));
    }
    found.into_iter().collect()
}

fn is_weights(file: &str) -> bool {
    ENDS.iter().any(|end| file.ends_with(&format!(".{end}")))
}

/// Folders of the repository that hold what `name` lacks.
fn elsewhere(name: &HubName, files: &[String]) -> String {
    let holders = files.iter().filter_map(|file| {
        let (folder, file) = file.rsplit_once('/')?;
        ["config.json", "adapter_config.json"].contains(&file).then_some(folder)
    });
    let names: Vec<String> = holders
        .take(4)
        .map(|folder| HubName { subfolder: Some(folder.to_owned()), ..name.clone() }.to_string())
        .collect();
    if names.is_empty() {
        return ", expected model.safetensors, pytorch_model.bin, model.pth or adapter_model.safetensors"
            .to_owned();
    }
    format!("; its folders have some: {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(name: &str, files: &[&str]) -> Result<Vec<String>, String> {
        let name = HubName::of(Path::new(name)).unwrap().unwrap();
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        wanted(&name, &files).map_err(|error| error.to_string())
    }

    #[test]
    fn json_and_the_first_kind_of_weights_are_taken_and_nothing_else() {
        let all = [
            "README.md",
            "modeling.py",
            "config.json",
            "tokenizer.py",
            "model.safetensors",
            "pytorch_model.bin",
            "optimizer.pt",
            "model.pt",
            "sub/config.json",
        ];
        assert_eq!(taken("hf:a/b", &all).unwrap(), ["config.json", "model.safetensors"]);
        let bin = ["config.json", "pytorch_model.bin", "model.pth", "statistics.json"];
        assert_eq!(taken("hf:a/b", &bin).unwrap(), ["config.json", "statistics.json", "pytorch_model.bin"]);
        let adapter =
            ["adapter_config.json", "adapter_model.bin", "adapter_model.safetensors", "eva_rl.json"];
        assert_eq!(
            taken("hf:a/b", &adapter).unwrap(),
            ["adapter_config.json", "eva_rl.json", "adapter_model.safetensors"]
        );
    }

    #[test]
    fn a_policy_s_tokenizer_is_taken_whole_or_in_its_two_parts() {
        let parts = ["config.json", "model.safetensors", "vocab.json", "merges.txt", "tokenizer_config.json"];
        let taken_of = |more: &[&str]| taken("hf:a/b", &[&parts[..], more].concat()).unwrap()[2..].to_vec();
        assert_eq!(taken_of(&[]), ["vocab.json", "merges.txt", "tokenizer_config.json"]);
        assert_eq!(taken_of(&["tokenizer.json"]), ["tokenizer.json", "tokenizer_config.json"]);
        let adapter = ["adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "merges.txt"];
        assert_eq!(taken("hf:a/b", &adapter).unwrap(), adapter[..2]);
        let alone = ["config.json", "model.safetensors", "tokenizer_config.json"];
        assert_eq!(taken("hf:a/b", &alone).unwrap(), alone[..2]);
    }

    #[test]
    fn shards_are_the_files_beside_an_index_that_it_names() {
        let all = ["config.json", "model.safetensors.index.json", "part-1.safetensors", "other.safetensors"];
        assert_eq!(taken("hf:a/b", &all).unwrap(), ["config.json", "model.safetensors.index.json"]);
        let folder = tempfile::tempdir().unwrap();
        let text =
            r#"{"weight_map": {"a": "part-1.safetensors", "b": "../evil.safetensors", "c": "run.py"}}"#;
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/model.safetensors.index.json"), text).unwrap();
        let index = ["sub/model.safetensors.index.json".to_owned()];
        assert_eq!(shards(folder.path(), &index), ["sub/part-1.safetensors"]);
    }

    #[test]
    fn a_folder_or_a_file_of_weights_may_be_named() {
        let all = ["a/config.json", "a/best.pth", "a/model.safetensors", "a/run.py"];
        assert_eq!(taken("hf:o/n/a", &all).unwrap(), ["a/config.json", "a/model.safetensors"]);
        assert_eq!(taken("hf:o/n/a/best.pth", &all).unwrap(), ["a/config.json", "a/best.pth"]);
        assert!(taken("hf:o/n/a/run.py", &all).unwrap_err().contains("is the file `run.py`, expected"));
        assert!(taken("hf:o/n", &all).unwrap_err().ends_with("its folders have some: hf:o/n/a"));
    }

    #[test]
    fn a_list_with_a_path_that_leads_elsewhere_is_refused() {
        for bad in ["../config.json", "/config.json", "a/../../config.json", "a//config.json"] {
            assert!(taken("hf:a/b", &["config.json", "model.safetensors", bad]).is_err(), "{bad}");
        }
    }
}
