//! Which files of a repository are taken: those that the readers of policies and adapters look at.

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
        Some(file) if ENDS.iter().any(|end| file.ends_with(&format!(".{end}"))) => found.push(file),
        Some(file) => {
            let text = format!(
                "{name} is the file `{file}`, expected a folder, or weights that end in .safetensors, .bin, .pth or .pt"
            );
            return Err(HubError::Input(text));
        }
        None => {
            let of_policy = weights_in(&inside, &WEIGHTS[..3]);
            let of_adapter = weights_in(&inside, &WEIGHTS[3..]);
            if of_policy.is_empty() && of_adapter.is_empty() {
                return Err(HubError::Input(format!(
                    "{name} has no weights of a policy or an adapter{}",
                    elsewhere(name, files)
                )));
            }
            found.extend(of_policy.into_iter().chain(of_adapter));
        }
    }
    Ok(found.into_iter().map(|file| format!("{prefix}{file}")).collect())
}

/// The first of `kinds` that is there: one file, or an index with its shards.
fn weights_in<'a>(inside: &[&'a str], kinds: &[(&str, &str)]) -> Vec<&'a str> {
    for (stem, end) in kinds {
        let whole = format!("{stem}.{end}");
        let index = format!("{whole}.index.json");
        if let Some(file) = inside.iter().find(|file| **file == whole) {
            return vec![file];
        }
        if let Some(file) = inside.iter().find(|file| **file == index) {
            let (start, end) = (format!("{stem}-"), format!(".{end}"));
            let shards = inside.iter().filter(|file| file.starts_with(&start) && file.ends_with(&end));
            return std::iter::once(file).chain(shards).copied().collect();
        }
    }
    Vec::new()
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
    use std::path::Path;

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
            "tokenizer.json",
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
    fn shards_are_those_beside_their_index() {
        let all = [
            "config.json",
            "model.safetensors.index.json",
            "model-1-of-2.safetensors",
            "model-2-of-2.safetensors",
            "other-1.safetensors",
        ];
        assert_eq!(taken("hf:a/b", &all).unwrap().len(), 4);
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
