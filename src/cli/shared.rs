//! Arguments that several commands take, and how values are read.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PathBufValueParser, PossibleValue, PossibleValuesParser, TypedValueParser};
use eva_rl_agents::model::{Given, PolicyConfig};
use eva_rl_envs::{BridgeSettings, Kwargs, is_bridged};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::config::{self, AdapterConfig, OnlineConfig, StatisticsFrom, TargetReturn};
use crate::data::{self, Dataset, OnBadEpisode, Reading};
use crate::policies::{self, Source, TaskEnv};
use crate::rollout::{Actions, Inference};
use crate::support::errors::{InputError, tell};

/// The environment that a command acts in.
#[derive(Debug, Args)]
pub struct EnvArgs {
    /// Gymnasium's id, such as Pendulum-v1; with envpool: or gymnasium: before it, in Python
    #[arg(long = "env", value_name = "ID")]
    pub id: String,
    /// How it is made
    #[command(flatten)]
    pub options: EnvOptions,
}

/// The environment that a policy of named tasks may choose.
#[derive(Debug, Args)]
pub struct TaskEnvArgs {
    /// Gymnasium's id, such as Pendulum-v1; with envpool: or gymnasium: before it, in Python; that of `--task` where
    /// absent
    #[arg(long = "env", value_name = "ID", required_unless_present = "task")]
    pub id: Option<String>,
    /// How it is made
    #[command(flatten)]
    pub options: EnvOptions,
}

impl TaskEnvArgs {
    /// The environment that is named, or else that of the task of a policy, which is told of; the user's options count
    /// before the task's.
    pub fn resolve(&self, policy: Option<(&PolicyConfig, &Path)>) -> anyhow::Result<TaskEnv> {
        let given = self.options.kwargs();
        match (&self.id, policy) {
            (Some(id), _) => Ok(TaskEnv { id: id.clone(), kwargs: given, reference: None }),
            (None, None) => {
                Err(InputError("--env is missing, expected an environment's id".to_owned()).into())
            }
            (None, Some((config, path))) => {
                let mut env = policies::env_of_task(config, path)?;
                env.kwargs.extend(given);
                let (task, id) = (config.task.as_deref().unwrap_or_default(), &env.id);
                let options = match env.kwargs.is_empty() {
                    true => String::new(),
                    false => format!(" with {}", serde_json::to_string(&env.kwargs)?),
                };
                tell(&format!("the task {task} is played in `{id}`{options}"));
                Ok(env)
            }
        }
    }
}

/// How an environment is made.
#[derive(Clone, Debug, Args)]
pub struct EnvOptions {
    /// An option of the environment, such as g=14
    #[arg(long = "env-kwarg", value_name = "KEY=VALUE", value_parser = kwarg)]
    pub kwargs: Vec<(String, serde_json::Value)>,
    /// Environments that step together
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub num_envs: u32,
    /// Python for envpool: and gymnasium:; else EVA_RL_PYTHON, .bridge/bin/python or python3
    #[arg(long = "env-python", value_name = "FILE")]
    pub python: Option<PathBuf>,
    /// A Python module to import first, which may register the environment
    #[arg(long = "env-import", value_name = "MODULE")]
    pub imports: Vec<String>,
    /// A number of Python's infos to look at, such as is_success
    #[arg(long = "env-info", value_name = "NAME")]
    pub infos: Vec<String>,
    /// Processes that share the environments of gymnasium:; as many as cores where absent
    #[arg(long = "env-processes", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub processes: Option<u32>,
}

impl EnvOptions {
    /// How Python workers of the environment `id` are run, if it has any, and whether they keep `images` apart.
    pub fn bridge(&self, id: &str, images: bool) -> anyhow::Result<BridgeSettings> {
        let given = [
            ("--env-python", self.python.is_some()),
            ("--env-import", !self.imports.is_empty()),
            ("--env-info", !self.infos.is_empty()),
            ("--env-processes", self.processes.is_some()),
        ];
        if let Some((flag, _)) = given.iter().find(|(_, given)| *given && !is_bridged(id)) {
            return Err(InputError(format!(
                "{flag} is given for the native `{id}`, and it is for ids that begin with `envpool:` or `gymnasium:`"
            ))
            .into());
        }
        let usual = BridgeSettings::default();
        Ok(BridgeSettings {
            python: self.python.clone(),
            imports: self.imports.clone(),
            infos: self.infos.clone(),
            processes: self.processes.map_or(usual.processes, |processes| processes as usize),
            images,
            ..usual
        })
    }

    /// The options by name.
    pub fn kwargs(&self) -> Kwargs {
        self.kwargs.iter().cloned().collect()
    }
}

/// What a policy's own files may lack, and which of its tasks is meant.
#[derive(Debug, Args)]
pub struct GivenArgs {
    /// JSON with state_mean, state_std, return_scale, target_return, …, over those of the policy; or `data`, for those
    /// of the dataset
    #[arg(long, value_name = "FILE|data", value_parser = statistics())]
    pub statistics: Option<StatisticsFrom>,
    /// Task to play, of a policy that knows several (`inspect POLICY` lists them)
    #[arg(long, value_name = "NAME")]
    pub task: Option<String>,
}

impl GivenArgs {
    /// The policy at `path`, as it is meant.
    pub fn source(&self, path: &Path, adapter: Option<&Path>) -> anyhow::Result<Source> {
        Source::of(path, adapter, self.statistics.clone(), self.task.clone())
    }

    /// What was named, for a command that reads no dataset.
    pub fn given(&self) -> anyhow::Result<Given<'_>> {
        let file = match &self.statistics {
            None => None,
            Some(StatisticsFrom::File(path)) => Some(path.as_path()),
            Some(StatisticsFrom::Data) => {
                let text = "--statistics is data, and this command reads no dataset; expected a file of JSON";
                return Err(InputError(text.to_owned()).into());
            }
        };
        Ok(Given { statistics: file, task: self.task.as_deref(), new_tasks: None, compact: false })
    }
}

fn statistics() -> impl TypedValueParser<Value = StatisticsFrom> {
    PathBufValueParser::new().map(StatisticsFrom::from)
}

/// The dataset that other arguments speak of.
#[derive(Debug, Args)]
pub struct OfDataArgs {
    /// The dataset whose statistics `--statistics data` takes, and whose greatest return is `--target-return best`
    #[arg(long, value_name = "DATASET")]
    pub data: Option<PathBuf>,
}

impl OfDataArgs {
    /// Reads it, if there is one, for a policy that reads `images` or not.
    pub fn read(&self, images: bool) -> anyhow::Result<Option<Dataset>> {
        let Some(path) = &self.data else { return Ok(None) };
        let dataset = data::read_named(path, Reading { images, ..Reading::default() })?;
        Ok(Some(dataset))
    }

    /// Target returns in the environment's units, where `data` is what [`OfDataArgs::read`] has read.
    pub fn targets(&self, named: &[TargetReturn], data: Option<&Dataset>) -> anyhow::Result<Vec<f32>> {
        let given = |target: &TargetReturn| match (target, data) {
            (TargetReturn::Of(target), _) => Ok(*target),
            (target, Some(data)) => Ok(target.given(data::greatest_return(std::slice::from_ref(data)))),
            (target, None) => {
                let text = format!("--target-return is {target}, expected --data with a dataset beside it");
                Err(InputError(text).into())
            }
        };
        named.iter().map(given).collect()
    }
}

/// How faults in the episodes of a dataset are taken.
#[derive(Debug, Args)]
pub struct ReadingArgs {
    /// Of an episode that cannot be read: refuse the dataset, or skip the episode
    #[arg(long, value_name = "HOW", default_value = "refuse", value_parser = word::<OnBadEpisode>())]
    pub on_bad_episode: OnBadEpisode,
    /// Clip recorded actions to their Box; those outside make an episode bad where absent
    #[arg(long)]
    pub clip_actions: bool,
}

impl ReadingArgs {
    /// The same for readers that keep `images` apart or not.
    pub fn reading(&self, images: bool) -> Reading {
        Reading { on_bad_episode: self.on_bad_episode, clip_actions: self.clip_actions, images }
    }
}

/// How a policy acts.
#[derive(Debug, Args)]
pub struct ActingArgs {
    /// What a step computes: window (the whole context, as decision transformers are evaluated), cached (its own
    /// tokens; faster, and another policy once an episode outgrows the context) or reference (as the family's
    /// reference acts)
    #[arg(long, value_name = "HOW", default_value = "window", value_parser = word::<Inference>())]
    pub inference: Inference,
    /// How actions are chosen: greedy (the most likely one) or sampled (by the logits of discrete or binned actions)
    #[arg(long, value_name = "HOW", default_value = "greedy", value_parser = word::<Actions>())]
    pub actions: Actions,
    /// Cap on the return-to-go that the policy is conditioned on at any step; none where absent
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub max_return_to_go: Option<f32>,
}

impl ActingArgs {
    /// The cap on returns-to-go, checked.
    pub fn cap(&self) -> anyhow::Result<Option<f32>> {
        match self.max_return_to_go {
            Some(cap) if !cap.is_finite() => {
                Err(InputError(format!("--max-return-to-go is {cap}, expected a finite number")).into())
            }
            cap => Ok(cap),
        }
    }
}

pub(super) fn device(text: &str) -> Result<tch::Device, String> {
    let index = match text {
        "cpu" => return Ok(tch::Device::Cpu),
        "cuda" => Some(0),
        _ => text.strip_prefix("cuda:").and_then(|index| index.parse().ok()),
    };
    let index = index.ok_or("expected cpu, cuda or cuda:N")?;
    let count = tch::Cuda::device_count();
    if (index as i64) < count {
        Ok(tch::Device::Cuda(index))
    } else {
        Err(format!("this libtorch sees {count} CUDA devices"))
    }
}

/// One of a few words, which `--help` and completions list.
pub(super) fn word<T>() -> impl TypedValueParser<Value = T>
where
    T: JsonSchema + DeserializeOwned + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(possible::<T>())
        .map(|text| serde_json::from_value(text.into()).expect("the schema lists the words that can be read"))
}

/// What `T` chooses among, each with the first sentence of its documentation.
pub(super) fn possible<T: JsonSchema>() -> Vec<PossibleValue> {
    possible_values(config::choices::<T>())
}

/// Names, each with the first sentence of its documentation.
pub(super) fn possible_values(choices: Vec<(String, String)>) -> Vec<PossibleValue> {
    let value = |(name, docs): (String, String)| {
        let sentence = docs.split(". ").next().unwrap_or_default().trim_end_matches('.').to_owned();
        PossibleValue::new(name).help(sentence)
    };
    choices.into_iter().map(value).collect()
}

pub(super) fn methods() -> PossibleValuesParser {
    let values = possible::<AdapterConfig>().into_iter();
    PossibleValuesParser::new(values.map(|value| match value.get_name() {
        "full_fine_tuning" => value.alias("full"),
        _ => value,
    }))
}

pub(super) fn algorithms() -> PossibleValuesParser {
    let none = PossibleValue::new("none").help("Not at all: the run is offline only");
    PossibleValuesParser::new([none].into_iter().chain(possible::<OnlineConfig>()))
}

/// `g=14` as a name and a JSON value; what is no JSON value is a string.
pub(super) fn kwarg(text: &str) -> Result<(String, serde_json::Value), String> {
    let (key, value) = text.split_once('=').ok_or("no `=`; write KEY=VALUE, such as g=14")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((key.to_owned(), value))
}
