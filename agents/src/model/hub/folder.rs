//! Policy folders in Hugging Face's format: `config.json`, and weights in safetensors or PyTorch's format,
//! whole or in shards.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};
use tch::{Device, Tensor};

use super::error::PolicyError;
use super::statistics::{self, Origin};
use crate::model::core::bad_field::BadField;
use crate::model::core::config::{PolicyConfig, StatisticsSource};
use crate::model::core::tasks::{self, Tasks};
use crate::model::core::tokenizer::TokenizerFiles;
use crate::model::core::weights::{self, TensorSpec};
use crate::model::families;
use crate::model::policy::transformer::TransformerPolicy;
use crate::tensor::file::{self as tensor_file, TensorFile};
use crate::text::in_words;

/// What the user says of a policy beside where it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// A file of statistics.
    pub statistics: Option<&'a Path>,
    /// The task to play, of a policy that knows several.
    pub task: Option<&'a str>,
    /// Tasks beside those of its files; their groups may be new, and their encoders and heads are drawn then.
    pub new_tasks: Option<&'a Tasks>,
    /// Whether linear maps and embedding tables that the file keeps in 16 bits stay so in memory, of a policy that nothing
    /// trains. What it computes is the same but for rounding.
    pub compact: bool,
}

/// Reads a policy onto `device`, frozen.
pub fn read(folder: &Path, given: Given, device: Device) -> Result<TransformerPolicy, PolicyError> {
    let config = folder.join("config.json");
    let table = config.is_file().then(|| statistics::read_table(&config)).transpose()?;
    let file = match TensorFile::find(folder, "model", "pytorch_model") {
        Err(_) if table.is_none() => return Err(statistics::no_such_file(config)),
        file => file?,
    };
    read_tensors(table, &config, file, given, device)
}

/// The same of weights in a file of any name, beside which `config.json` may lie.
pub fn read_file(path: &Path, given: Given, device: Device) -> Result<TransformerPolicy, PolicyError> {
    let file = TensorFile::open(path)?;
    let config = path.parent().unwrap_or(Path::new(".")).join("config.json");
    let table = config.is_file().then(|| statistics::read_table(&config)).transpose()?;
    read_tensors(table, &config, file, given, device)
}

/// The policy of a file's tensors, and of the `table` at `path`, which some families do without.
fn read_tensors(
    table: Option<Map<String, Value>>,
    path: &Path,
    file: TensorFile,
    given: Given,
    device: Device,
) -> Result<TransformerPolicy, PolicyError> {
    let is_there = |known: &str| {
        let below = format!(".{known}");
        file.names().any(|name| name == known || name.ends_with(&below))
    };
    let named = table.as_ref().is_some_and(|table| table.contains_key("model_type"));
    let by_tensors = if named { None } else { families::of_tensors(is_there) };
    let mut table = match (table, by_tensors) {
        (Some(table), _) => table,
        (None, Some(family)) if family.is_whole_without_config => Map::new(),
        (None, _) => {
            let reason =
                "it is a state dict, and no config.json lies beside it to say of what sizes".to_owned();
            return Err(PolicyError::Read { path: file.path().to_owned(), reason });
        }
    };
    if let Some(family) = by_tensors {
        table.insert("model_type".to_owned(), Value::from(family.model_types[0]));
    }
    let family = table.get("model_type").and_then(Value::as_str).and_then(|name| families::named(name).ok());
    let file = match family {
        Some(family) => file.without_prefix(family.known_tensor),
        None => file,
    };
    if let Some(complete) = family.and_then(|family| family.complete) {
        complete(&mut table, &|name| file.shape(name));
    }
    let own = table.clone();
    let origin = statistics::complete(&mut table, file.path(), given.statistics)?;
    if family.is_some_and(|family| family.tasks_file.is_some()) {
        table = own; // statistics are a task's, and wait until it is chosen
    }
    let config = parse_config(table, path, &origin)?;
    let mut config = choose_task(config, path, given, &origin)?;
    let beside = path.parent().unwrap_or(Path::new("."));
    config.tokenizer = TokenizerFiles::read(beside).map_err(|error| PolicyError::Read {
        path: beside.to_owned(),
        reason: format!("its tokenizer: {error}"),
    })?;
    // A config without `model_type` says its family only now.
    let file = file.without_prefix(families::of(&config).known_tensor);
    read_weights(config, file, given.compact, device)
}

/// The config for one of its tasks, which a file beside the `config.json` at `path` tells of where the family has such;
/// the statistics of `origin`, if it is another file, count before the task's own.
fn choose_task(
    mut config: PolicyConfig,
    path: &Path,
    given: Given,
    origin: &Origin,
) -> Result<PolicyConfig, PolicyError> {
    let (mut path, task) = (path.to_owned(), given.task);
    if let Some(file) = families::of(&config).tasks_file {
        path.set_file_name(file);
        let table = statistics::read_table(&path)?;
        config.tasks = serde_path_to_error::deserialize(Value::Object(table)).map_err(|error| {
            let reason = format!("`{}`: {}", error.path(), in_words(error.inner()));
            PolicyError::Parse { path: path.clone(), reason }
        })?;
        config.statistics_from = StatisticsSource::File(path.clone());
        for (name, task) in given.new_tasks.into_iter().flatten() {
            if config.tasks.insert(name.clone(), task.clone()).is_some() {
                let wanted = "the name of no task of the policy, for a new task".to_owned();
                let source = BadField { key: "task".into(), found: format!("{name:?}"), wanted };
                return Err(PolicyError::Field { path, source });
            }
            config.new_tasks.insert(name.clone(), task.clone());
        }
        tasks::check(&config.tasks).map_err(|source| PolicyError::Field { path: path.clone(), source })?;
    }
    if let (None, Some(name)) =
        (families::of(&config).tasks_file, given.new_tasks.and_then(|tasks| tasks.keys().next()))
    {
        let wanted = "none: the policy has no groups of tasks, each with an encoder and a head".to_owned();
        let source = BadField { key: "new_task".into(), found: format!("{name:?}"), wanted };
        return Err(PolicyError::Field { path, source });
    }
    if families::of(&config).fit.is_some() {
        // What it plays is the environment's affair; names of tasks are those of its authors' data.
        return Ok(PolicyConfig { task: task.map(str::to_owned).or(config.task), ..config });
    }
    let bad = |path: &Path, source| PolicyError::Field { path: path.to_owned(), source };
    let mut config = config.for_task(task).map_err(|source| bad(&path, source))?;
    if let (false, StatisticsSource::File(file)) = (config.tasks.is_empty(), &origin.source) {
        config.take_statistics(origin.statistics(file)?, StatisticsSource::File(file.clone()));
    }
    families::check(&config).map_err(|source| bad(origin.file_of(&source.key, &path), source))?;
    Ok(config)
}

/// The policy of a config with the weights of a file.
fn read_weights(
    config: PolicyConfig,
    file: TensorFile,
    compact: bool,
    device: Device,
) -> Result<TransformerPolicy, PolicyError> {
    let family = families::of(&config);
    let path = file.path().to_owned();
    let layout = (family.layout)(&config);
    let file = family.tensor_aliases.iter().fold(file, |file, (alias, name)| file.renamed(alias, name));
    let groups = config.new_tasks.values().map(|task| format!(".{}.", task.group_name));
    let groups: Vec<String> = groups.collect();
    let mut new = Vec::new();
    for TensorSpec { name, shape: expected, .. } in &layout {
        match file.shape(name) {
            Some(found) if found == expected => {}
            None if groups.iter().any(|group| name.contains(group)) => new.push(name.clone()),
            Some(found) => {
                let (name, expected, found) = (name.clone(), expected.clone(), found.to_owned());
                return Err(PolicyError::Shape { path, name, expected, found });
            }
            None => {
                return Err(PolicyError::Missing { path, name: name.clone(), expected: expected.clone() });
            }
        }
    }
    let asked = |name: &str| layout.iter().any(|asked| asked.name == name);
    let mut ignored = Vec::new();
    for name in
        file.names().filter(|name| !asked(name) && !(family.is_buffer)(name) && !(family.is_optional)(name))
    {
        if (family.is_own)(name) {
            return Err(PolicyError::Unexpected { path, name: name.to_owned() });
        }
        ignored.push(name.to_owned());
    }
    let drawn: Vec<TensorSpec> = layout.iter().filter(|spec| new.contains(&spec.name)).cloned().collect();
    let mut kept = weights::draw(&drawn, device);
    let optional = file.names().filter(|name| !asked(name) && (family.is_optional)(name));
    let read =
        layout.iter().map(|asked| asked.name.as_str()).filter(|name| !new.iter().any(|new| new == name));
    for name in read.chain(optional) {
        let is_matrix = name.ends_with(".weight") && file.shape(name).is_some_and(|shape| shape.len() == 2);
        let tensor = match compact && is_matrix {
            true => file.read_compact_weight(name, device)?,
            false => file.read_weight(name, device)?,
        };
        kept.insert(name.to_owned(), tensor);
    }
    let config = PolicyConfig { ignored, new_tensors: new, ..config };
    Ok(TransformerPolicy::from_weights(config, kept))
}

/// The config in `table`, checked; `origin` says which of its keys are from another file than `path`.
pub(super) fn parse_config(
    mut table: Map<String, Value>,
    path: &Path,
    origin: &Origin,
) -> Result<PolicyConfig, PolicyError> {
    let parse = |path: &Path, reason: String| PolicyError::Parse { path: path.to_owned(), reason };
    let model_type = table.get("model_type").and_then(Value::as_str);
    let aliases =
        model_type.and_then(|name| families::named(name).ok()).map_or(&[][..], |family| family.aliases);
    for (alias, name) in aliases {
        if let Some(value) = table.remove(*alias)
            && *table.entry(*name).or_insert_with(|| value.clone()) != value
        {
            return Err(parse(path, format!("`{alias}` and `{name}` are the same size, and they differ")));
        }
    }
    let mut config: PolicyConfig =
        serde_path_to_error::deserialize(Value::Object(table)).map_err(|error| {
            let key = error.path().to_string();
            let whose = origin.file_of(&key, path);
            parse(whose, format!("`{key}`: {}", in_words(error.inner())))
        })?;
    families::check(&config).map_err(|source| {
        let path = origin.file_of(&source.key, path).to_owned();
        PolicyError::Field { path, source }
    })?;
    config.statistics_from = origin.source.clone();
    Ok(config)
}

/// Writes a policy into `folder`, which exists.
pub fn write(policy: &TransformerPolicy, folder: &Path) -> Result<(), PolicyError> {
    let path = folder.join("config.json");
    let text = serde_json::to_string_pretty(policy.config()).expect("a config can be written as JSON");
    fs::write(&path, text + "\n").map_err(|error| PolicyError::Write { path, reason: error.to_string() })?;

    if let Some(file) = families::of(policy.config()).tasks_file {
        let path = folder.join(file);
        let text =
            serde_json::to_string_pretty(&policy.config().tasks).expect("tasks can be written as JSON");
        fs::write(&path, text + "\n")
            .map_err(|error| PolicyError::Write { path, reason: error.to_string() })?;
    }

    policy
        .config()
        .tokenizer
        .write(folder)
        .map_err(|error| PolicyError::Write { path: folder.to_owned(), reason: error.to_string() })?;

    let path = folder.join("model.safetensors");
    let tensors: Vec<(String, Tensor)> =
        policy.weights().iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    tensor_file::write(&tensors, &path)
        .map_err(|error| PolicyError::Write { path, reason: error.to_string() })
}
