//! Which policy a user means, and which adapter of it: a policy's own folder, or what a run has saved.

use std::path::{Path, PathBuf};

use eva_rl_agents::model::Given;

use crate::config::{self, PolicyConfig};
use crate::support::errors::{InputError, OrInput};

/// A policy, and an adapter of it where there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// A policy folder, or a TorchScript module.
    pub policy: PathBuf,
    /// An adapter folder of that policy.
    pub adapter: Option<PathBuf>,
    /// What the policy's files may lack.
    pub statistics: Option<PathBuf>,
    /// The task to play, of a policy that knows several.
    pub task: Option<String>,
}

impl Source {
    /// What the user says of the policy beside where it is.
    pub fn given(&self) -> Given<'_> {
        Given { statistics: self.statistics.as_deref(), task: self.task.as_deref() }
    }

    /// `path` is a policy, a run (whose best policy is meant), its `best/`, a checkpoint of it, or an adapter of
    /// one of these.
    pub fn of(path: &Path, adapter: Option<&Path>, given: Given) -> anyhow::Result<Self> {
        let (statistics, task) = (given.statistics.map(Path::to_owned), given.task.map(str::to_owned));
        let Some(saved) = saved(path)? else {
            return Ok(Self {
                policy: path.to_owned(),
                adapter: adapter.map(Path::to_owned),
                statistics,
                task,
            });
        };
        if let Some(adapter) = adapter {
            let text = format!(
                "--adapter is {adapter:?}, and {path:?} was saved by a run, with what it has trained"
            );
            return Err(InputError(text).into());
        }
        let own = saved.join("policy");
        if own.is_dir() {
            return Ok(Self { policy: own, adapter: None, statistics, task });
        }
        let adapter = if is_adapter(&saved) { saved } else { saved.join("adapter") };
        let recorded = recorded_base(&adapter);
        let root = adapter.canonicalize().or_input()?;
        let run = root.ancestors().skip(1).take(3).find(|folder| folder.join("config.toml").is_file());
        let written = match run {
            Some(run) => match config::load(&run.join("config.toml"), &[]).or_input()?.policy {
                PolicyConfig::Pretrained { path, statistics, task } => Some((path, (statistics, task))),
                PolicyConfig::New(_) | PolicyConfig::NewL2m(_) | PolicyConfig::NewLram(_) => None,
            },
            None => None,
        };
        let (base, own) = written.unzip();
        let policy = base_at_hand(recorded.as_deref(), base.as_deref(), &root);
        let policy = policy.ok_or_else(|| {
            let name = recorded.or(base).unwrap_or_default();
            InputError(format!(
                "the policy {name:?}, which the adapter {adapter:?} adapts, is not there; give its folder as POLICY, with --adapter {adapter:?}"
            ))
        })?;
        let (own_statistics, own_task) = own.unwrap_or_default();
        let own = own_statistics.and_then(|file| base_at_hand(None, Some(&file), &root));
        Ok(Self { policy, adapter: Some(adapter), statistics: statistics.or(own), task: task.or(own_task) })
    }
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

/// The base that an adapter's own config names.
fn recorded_base(adapter: &Path) -> Option<PathBuf> {
    let text = eva_rl_agents::read_text(&adapter.join("adapter_config.json")).ok()?;
    let config: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(config["base_model_name_or_path"].as_str()?.into())
}

/// Where the run's base lies now: where it lay, or as the config has it, from the current folder or from one
/// above the run, which may have moved with it. Whether it is the right one its fingerprint tells.
fn base_at_hand(recorded: Option<&Path>, written: Option<&Path>, run: &Path) -> Option<PathBuf> {
    let recorded = recorded.filter(|path| path.exists()).map(Path::to_owned);
    recorded.or_else(|| {
        let written = written?;
        let here = std::iter::once(written.to_owned());
        let above = run.ancestors().map(|folder| folder.join(written));
        here.chain(above).find(|path| path.exists())
    })
}
