//! Which policy a user means, and which adapter of it: a policy's own folder, or what a run has saved.

use std::path::{Path, PathBuf};

use eva_rl_agents::model::{Given, Policy, PolicyConfig as HfConfig, Tasks};
use tch::Device;

use super::data_statistics::{statistics_beside, take_statistics_of};
use super::new_task::new_tasks_beside;
use super::reading::{self, check_task};
use crate::config::{self, PolicyConfig, StatisticsFrom};
use crate::data::Dataset;
use crate::hub::{self, HubName};
use crate::support::errors::{InputError, OrInput};

/// A policy, and an adapter of it where there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// A policy folder, or a TorchScript module.
    pub policy: PathBuf,
    /// An adapter folder of that policy.
    pub adapter: Option<PathBuf>,
    /// Where what the policy's files may lack is taken from.
    pub statistics: Option<StatisticsFrom>,
    /// The task to play, of a policy that knows several.
    pub task: Option<String>,
    /// Tasks that the policy's own files do not know, and the adapter does.
    pub new_tasks: Option<Tasks>,
}

impl Source {
    /// What the user says of the policy beside where it is.
    pub fn given(&self) -> Given<'_> {
        let file = self.statistics.as_ref().and_then(StatisticsFrom::file);
        let (task, new_tasks) = (self.task.as_deref(), self.new_tasks.as_ref());
        Given { statistics: file, task, new_tasks, compact: false }
    }

    /// The same of a policy that nothing trains.
    pub fn given_to_act(&self) -> Given<'_> {
        Given { compact: true, ..self.given() }
    }

    /// Takes the statistics of `data`, where those are meant.
    pub fn take_statistics(
        &self,
        config: &mut HfConfig,
        data: &[Dataset],
        path: Option<&Path>,
    ) -> anyhow::Result<()> {
        if self.statistics != Some(StatisticsFrom::Data) {
            return Ok(());
        }
        check_task(config, &self.policy)?;
        let (false, Some(path)) = (data.is_empty(), path) else {
            let text = "--statistics is data, expected --data with a dataset beside it";
            return Err(InputError(text.to_owned()).into());
        };
        take_statistics_of(config, data, &path.display().to_string())
    }

    /// `path` is a policy, a run (whose best policy is meant), its `best/`, a checkpoint of it, or an adapter of
    /// one of these; or a policy or an adapter of the Hub.
    pub fn of(
        path: &Path,
        adapter: Option<&Path>,
        statistics: Option<StatisticsFrom>,
        task: Option<String>,
    ) -> anyhow::Result<Self> {
        let of_hub = HubName::of(path).is_some();
        let local = hub::local(path)?;
        let saved = if of_hub { is_adapter(&local).then_some(local) } else { saved(path)? };
        let Some(saved) = saved else {
            let at_hand = adapter.map(hub::local).transpose()?;
            let beside = at_hand.as_deref().and_then(statistics_beside).map(StatisticsFrom::File);
            let new_tasks = at_hand.as_deref().map(new_tasks_beside).transpose()?.flatten();
            return Ok(Self {
                policy: path.to_owned(),
                adapter: adapter.map(Path::to_owned),
                statistics: statistics.or(beside),
                task: task.or(only_task(new_tasks.as_ref())),
                new_tasks,
            });
        };
        if let Some(adapter) = adapter {
            let text = format!(
                "--adapter is {adapter:?}, and {path:?} was saved by a run, with what it has trained"
            );
            return Err(InputError(text).into());
        }
        let own = saved.join("policy");
        if own.is_dir() && !of_hub {
            return Ok(Self { policy: own, adapter: None, statistics, task, new_tasks: None });
        }
        let adapter = if is_adapter(&saved) { saved } else { saved.join("adapter") };
        let recorded = recorded_base(&adapter);
        let root = adapter.canonicalize().or_input()?;
        let mut above = root.ancestors().skip(1).take(if of_hub { 0 } else { 3 });
        let run = above.find(|folder| folder.join("config.toml").is_file());
        let written = match run {
            Some(run) => {
                let policy = config::load(&run.join("config.toml"), &[]).or_input()?.policy;
                let path = policy.source();
                match policy {
                    PolicyConfig::Pretrained { statistics, task, .. } => path.zip(Some((statistics, task))),
                    PolicyConfig::New(_) | PolicyConfig::NewL2m(_) | PolicyConfig::NewLram(_) => None,
                }
            }
            None => None,
        };
        let (base, own) = written.unzip();
        let policy = base_at_hand(recorded.as_deref(), base.as_deref(), &root);
        let policy = policy.ok_or_else(|| {
            let name = recorded.or(base).unwrap_or_default();
            InputError(format!(
                "the policy {name:?}, which the adapter {adapter:?} adapts, is not there; give its folder or hf:OWNER/NAME as POLICY, with --adapter {adapter:?}"
            ))
        })?;
        let (own_statistics, own_task) = own.unwrap_or_default();
        let own = match own_statistics {
            Some(StatisticsFrom::File(file)) => base_at_hand(None, Some(&file), &root),
            Some(StatisticsFrom::Data) | None => statistics_beside(&adapter),
        };
        let statistics = statistics.or(own.map(StatisticsFrom::File));
        let new_tasks = new_tasks_beside(&adapter)?;
        let task = task.or(own_task).or(only_task(new_tasks.as_ref()));
        let adapter = if of_hub { path.to_owned() } else { adapter };
        Ok(Self { policy, adapter: Some(adapter), statistics, task, new_tasks })
    }
}

/// Reads a policy, with an adapter folded in where there is one; statistics of data are taken later.
pub fn read_merged(source: &Source, device: Device) -> anyhow::Result<Policy> {
    let (Source { policy: path, adapter, .. }, given) = (source, source.given_to_act());
    let Some(adapter) = adapter else { return reading::read_policy(path, given, device) };
    let policy = reading::read_transformer(path, given, device)?;
    let (_, adapters) = reading::read_adapter(adapter, &policy)?;
    Ok(Policy::Transformer(tch::no_grad(|| policy.merged(&adapters))))
}

/// The task of an adapter that knows one.
fn only_task(tasks: Option<&Tasks>) -> Option<String> {
    tasks.filter(|tasks| tasks.len() == 1).and_then(|tasks| tasks.keys().next().cloned())
}

/// The folder of a run that holds `adapter/` or `policy/`, or an adapter, if `path` names such.
fn saved(path: &Path) -> anyhow::Result<Option<PathBuf>> {
    if path.join("config.toml").is_file() {
        let best = path.join("best");
        if best.is_dir() {
            return Ok(Some(best));
        }
        return Err(
            InputError(format!("the run {path:?} has no best policy yet: it was not evaluated")).into()
        );
    }
    let holds = !path.join("config.json").is_file()
        && (is_adapter(&path.join("adapter")) || path.join("policy/config.json").is_file());
    Ok((holds || is_adapter(path)).then(|| path.to_owned()))
}

fn is_adapter(path: &Path) -> bool {
    path.join("adapter_config.json").is_file()
}

/// The base that an adapter's own config names: a path, or a name of the Hub.
fn recorded_base(adapter: &Path) -> Option<PathBuf> {
    let text = eva_rl_agents::read_text(&adapter.join("adapter_config.json")).ok()?;
    let config: serde_json::Value = serde_json::from_str(&text).ok()?;
    let base = config["base_model_name_or_path"].as_str()?;
    if Path::new(base).exists() || !hub::is_repo(base) {
        return Some(base.into());
    }
    let revision = config["revision"]
        .as_str()
        .map_or(String::new(), |revision| format!("@{}", revision.replace('/', "%2F")));
    Some(format!("hf:{base}{revision}").into())
}

/// Where the run's base lies now: where it lay, or as the config has it, from the current folder or from one
/// above the run, which may have moved with it. Whether it is the right one its fingerprint tells.
fn base_at_hand(recorded: Option<&Path>, written: Option<&Path>, run: &Path) -> Option<PathBuf> {
    let of_hub = |path: &&Path| HubName::of(path).is_some();
    let recorded = recorded.filter(|path| path.exists() || of_hub(path)).map(Path::to_owned);
    recorded.or_else(|| {
        let written = written?;
        if of_hub(&written) {
            return Some(written.to_owned());
        }
        let here = std::iter::once(written.to_owned());
        let above = run.ancestors().map(|folder| folder.join(written));
        here.chain(above).find(|path| path.exists())
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use eva_rl_agents::tensor::file::TensorFile;
    use tch::{Kind, Tensor};

    use super::*;

    #[test]
    fn a_policy_that_acts_keeps_the_16_bits_of_its_file_and_one_that_is_trained_does_not() {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/pendulum");
        let folder = tempfile::tempdir().unwrap();
        fs::copy(own.join("config.json"), folder.path().join("config.json")).unwrap();
        let file = TensorFile::find(&own, "model", "pytorch_model").unwrap();
        let tensors = file.read_all().unwrap();
        let halves: Vec<(&str, Tensor)> =
            tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.to_kind(Kind::BFloat16))).collect();
        Tensor::write_safetensors(&halves, folder.path().join("model.safetensors")).unwrap();
        let source = Source::of(folder.path(), None, None, None).unwrap();
        let matrix = |policy: &eva_rl_agents::model::TransformerPolicy| {
            policy.weights()["encoder.h.0.mlp.c_fc.weight"].kind()
        };
        let Policy::Transformer(acting) = read_merged(&source, Device::Cpu).unwrap() else {
            unreachable!("it is a transformer")
        };
        assert_eq!(matrix(&acting), Kind::BFloat16);
        let trained = reading::read_transformer(&source.policy, source.given(), Device::Cpu).unwrap();
        assert_eq!(matrix(&trained), Kind::Float);
    }
}
