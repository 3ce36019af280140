//! The command line: what may be asked, with an example for each command.

mod bench;
mod eva;

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use eva_rl_envs::{BridgeSettings, Kwargs, is_bridged};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::config::{self, AdapterConfig, OnlineConfig};
use crate::data::{OnBadEpisode, Reading};
use crate::failure::InputError;
use crate::report::{Axis, Measure};
use crate::rollout::Inference;

pub use bench::{
    BenchArgs, BenchEnvArgs, BenchEvaArgs, BenchForwardArgs, BenchRolloutArgs, BenchUpdateArgs, BenchWhat,
};
pub use eva::{EvaArgs, EvaFlags};

/// Fine-tunes pretrained decision-transformer policies with EVA and LoRA adapters.
#[derive(Debug, Parser)]
#[command(name = "eva-rl", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Threads that compute; else OMP_NUM_THREADS and RAYON_NUM_THREADS, else as many as the work is worth
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a commented config for a policy, a dataset and a method, to be edited and run
    #[command(
        after_help = "Example:\n  eva-rl init --policy policies/pendulum --data datasets/pendulum-g14-v0 --method eva --online odt --out mine.toml"
    )]
    Init(InitArgs),
    /// Run the experiment that a config describes
    #[command(after_help = "Example:\n  eva-rl train configs/demo.toml --set seed=2 --out runs/demo-2")]
    Train(TrainArgs),
    /// Play episodes with a policy and report their returns
    #[command(
        after_help = "Example:\n  eva-rl evaluate policies/pendulum --env Pendulum-v1 --env-kwarg g=14 --episodes 20"
    )]
    Evaluate(EvaluateArgs),
    /// Write offline trajectories as a Minari dataset
    #[command(
        after_help = "Example:\n  eva-rl collect --env CartPole-v1 --policy scripted --noise 0.2 --episodes 50 --out datasets/cartpole-v0"
    )]
    Collect(CollectArgs),
    /// Initialise an adapter from a dataset's activations, in PEFT's format
    #[command(
        after_help = "Example:\n  eva-rl eva policies/pendulum --data datasets/pendulum-g14-v0 --rank 4 --out adapters/pendulum-g14"
    )]
    Eva(EvaArgs),
    /// Fold an adapter into its policy's weights
    #[command(
        after_help = "Example:\n  eva-rl eva policies/pendulum --data datasets/pendulum-g14-v0 --rank 4 --out adapters/pendulum-g14\n  eva-rl merge policies/pendulum --adapter adapters/pendulum-g14 --out policies/merged"
    )]
    Merge(MergeArgs),
    /// Compute a policy's predictions for the inputs in a safetensors file
    #[command(
        after_help = "Example:\n  eva-rl predict agents/tests/golden/policies/plain --inputs agents/tests/golden/policies/plain/inputs.safetensors --out predictions.safetensors"
    )]
    Predict(PredictArgs),
    /// Say what a policy, adapter, dataset or run holds
    #[command(after_help = "Example:\n  eva-rl inspect policies/pendulum")]
    Inspect(InspectArgs),
    /// List the environments at hand
    #[command(after_help = "Example:\n  eva-rl envs --json")]
    Envs(EnvsArgs),
    /// Measure throughput on this machine
    #[command(after_help = "Example:\n  eva-rl bench env --env CartPole-v1 --num-envs 1024")]
    Bench(BenchArgs),
    /// Run every combination of a grid; what is done is skipped, what was stopped goes on
    #[command(
        after_help = "Example:\n  eva-rl sweep configs/sweeps/online.toml --out runs/online --dry-run\n  eva-rl sweep configs/sweeps/online.toml --out runs/online --jobs 2"
    )]
    Sweep(SweepArgs),
    /// Print a script that completes commands and options in a shell
    #[command(after_help = "Example:\n  source <(eva-rl completions bash)")]
    Completions(CompletionsArgs),
    /// Compare finished runs: a table and a figure of their learning curves
    #[command(after_help = "Example:\n  eva-rl report runs/demo-* --out report")]
    Report(ReportArgs),
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The policy to adapt; a new one is trained where absent
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<PathBuf>,
    /// What the policy's files may lack
    #[command(flatten)]
    pub statistics: StatisticsArgs,
    /// A Minari dataset; may be given more than once
    #[arg(long, value_name = "DATASET", required = true)]
    pub data: Vec<PathBuf>,
    /// What is trained: a table of `adapter`; eva where absent, full for a new policy
    #[arg(long, value_name = "METHOD", value_parser = methods())]
    pub method: Option<String>,
    /// How the run goes on with its own rollouts: a table of `online`
    #[arg(long, value_name = "ALGORITHM", default_value = "none", value_parser = algorithms())]
    pub online: String,
    /// The environment; the dataset's own where absent
    #[arg(long, value_name = "ID")]
    pub env: Option<String>,
    /// An option of the environment, such as g=14
    #[arg(long = "env-kwarg", value_name = "KEY=VALUE", value_parser = kwarg)]
    pub kwargs: Vec<(String, serde_json::Value)>,
    /// The config, which must not exist; printed where absent
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Arguments of `train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The experiment, in TOML; with --resume, the run's own config serves
    #[arg(required_unless_present = "resume")]
    pub config: Option<PathBuf>,
    /// Override a key of the config, such as optimiser.learning_rate=3e-4; KEY= takes the key or the table out,
    /// such as online= (KEY='""' is an empty string). Of several for one key the last counts
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// The run's folder; runs/CONFIG-seedN where absent
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub out: Option<PathBuf>,
    /// Go on with the run in this folder from its last checkpoint. With --set it may be prolonged
    /// (offline.updates before the first round, online.….exploration.rounds), and evaluation.every,
    /// evaluation.patience, checkpoint.every, checkpoint.keep and env.bridge may change; nothing else may
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
    /// The same as --set seed=N
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu", value_parser = device)]
    pub device: tch::Device,
    /// Import Python modules that datasets name in their environments' ids (gymnasium:MODULE:ID), where
    /// evaluation.on_datasets plays them: their code runs
    #[arg(long)]
    pub allow_imports: bool,
    /// One JSON document on stdout: the evaluations at the start and at the end, and what the run took
    #[arg(long)]
    pub json: bool,
    /// The process without which this one is to stop: its sweep
    #[arg(long, value_name = "PID", hide = true)]
    pub parent: Option<i32>,
}

/// The environment that a command acts in.
#[derive(Debug, Args)]
pub struct EnvArgs {
    /// Gymnasium's id, such as Pendulum-v1; with envpool: or gymnasium: before it, in Python
    #[arg(long = "env", value_name = "ID")]
    pub id: String,
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

impl EnvArgs {
    /// How Python workers are run, if the environment has any.
    pub fn bridge(&self) -> anyhow::Result<BridgeSettings> {
        let given = [
            ("--env-python", self.python.is_some()),
            ("--env-import", !self.imports.is_empty()),
            ("--env-info", !self.infos.is_empty()),
            ("--env-processes", self.processes.is_some()),
        ];
        if let Some((flag, _)) = given.iter().find(|(_, given)| *given && !is_bridged(&self.id)) {
            return Err(InputError(format!(
                "{flag} is given for the native `{}`, and it is for ids that begin with `envpool:` or `gymnasium:`",
                self.id
            ))
            .into());
        }
        let usual = BridgeSettings::default();
        Ok(BridgeSettings {
            python: self.python.clone(),
            imports: self.imports.clone(),
            infos: self.infos.clone(),
            processes: self.processes.map_or(usual.processes, |processes| processes as usize),
            ..usual
        })
    }

    /// The options by name.
    pub fn kwargs(&self) -> Kwargs {
        self.kwargs.iter().cloned().collect()
    }
}

/// What a policy's own files may lack.
#[derive(Debug, Args)]
pub struct StatisticsArgs {
    /// JSON with state_mean, state_std, return_scale, target_return, …, over those of the policy
    #[arg(long, value_name = "FILE")]
    pub statistics: Option<PathBuf>,
}

impl StatisticsArgs {
    /// The file, if one was named.
    pub fn file(&self) -> Option<&Path> {
        self.statistics.as_deref()
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
    /// The same for readers.
    pub fn reading(&self) -> Reading {
        Reading { on_bad_episode: self.on_bad_episode, clip_actions: self.clip_actions }
    }
}

/// How a policy acts.
#[derive(Debug, Args)]
pub struct ActingArgs {
    /// What a step computes: window (the whole context, as decision transformers are evaluated) or cached (its own
    /// tokens; faster, and another policy once an episode outgrows the context)
    #[arg(long, value_name = "HOW", default_value = "window", value_parser = word::<Inference>())]
    pub inference: Inference,
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

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// A policy folder, a TorchScript module (.pt), or a run, its best/ or a checkpoint, with what it has trained
    pub policy: PathBuf,
    /// What the policy's files may lack
    #[command(flatten)]
    pub statistics: StatisticsArgs,
    /// An adapter folder of that policy
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// The environment
    #[command(flatten)]
    pub env: EnvArgs,
    /// Episodes for each target return
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub episodes: u32,
    /// Target return; may be given more than once; the policy's own where absent
    #[arg(long = "target-return", value_name = "X", allow_hyphen_values = true)]
    pub target_returns: Vec<f32>,
    /// Decides the episodes
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// How the policy acts
    #[command(flatten)]
    pub acting: ActingArgs,
    /// Film the first episode; must not exist
    #[arg(long, value_name = "FILE")]
    pub gif: Option<PathBuf>,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `collect`.
#[derive(Debug, Args)]
pub struct CollectArgs {
    /// The environment
    #[command(flatten)]
    pub env: EnvArgs,
    /// scripted, random, or a policy: a folder, a TorchScript module (.pt) or a run
    #[arg(long, value_name = "scripted|random|POLICY")]
    pub policy: String,
    /// What the policy's files may lack
    #[command(flatten)]
    pub statistics: StatisticsArgs,
    /// Episodes to play
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub episodes: u32,
    /// Disturb actions: deviation in half-ranges, or the share of random ones if discrete; of several,
    /// separated by commas, episodes take one each, in turn
    #[arg(long, value_name = "S", value_delimiter = ',', default_value = "0")]
    pub noise: Vec<f32>,
    /// A policy's target return; its own where absent
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub target_return: Option<f32>,
    /// How the policy acts
    #[command(flatten)]
    pub acting: ActingArgs,
    /// Decides the episodes and the noise
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// The dataset's folder, which must not exist
    #[arg(long, value_name = "DATASET")]
    pub out: PathBuf,
    /// One JSON document on stdout: what the episodes came to
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// A policy folder; or a run, its best/ or a checkpoint
    pub policy: PathBuf,
    /// What the policy's files may lack; the merged policy's config.json gets it
    #[command(flatten)]
    pub statistics: StatisticsArgs,
    /// An adapter folder of that policy; a run has its own
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// The merged policy's folder, which must not exist
    #[arg(long, value_name = "POLICY")]
    pub out: PathBuf,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// A policy folder, a TorchScript module (.pt), or a run, its best/ or a checkpoint, with what it has trained
    pub policy: PathBuf,
    /// What the policy's files may lack
    #[command(flatten)]
    pub statistics: StatisticsArgs,
    /// An adapter folder of that policy
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// states, actions, returns_to_go, timesteps (int64) and attention_mask, as transformers takes them;
    /// rewards too, if the policy reads them
    #[arg(long, value_name = "FILE")]
    pub inputs: PathBuf,
    /// Gets action_preds, state_preds and return_preds, and action_logits if actions are binned; must not exist
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A policy, adapter, dataset or run folder, a run's best/ or checkpoint, or a TorchScript module (.pt)
    pub path: PathBuf,
    /// What a policy's files may lack
    #[command(flatten)]
    pub statistics: StatisticsArgs,
    /// How faults in a dataset are taken
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `envs`.
#[derive(Debug, Args)]
pub struct EnvsArgs {
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `sweep`.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// The grid, in TOML
    pub sweep: PathBuf,
    /// Gets a folder a run; may hold some already
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Runs at a time, which share the cores
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub jobs: u32,
    /// List the runs and their overrides, and run none
    #[arg(long)]
    pub dry_run: bool,
    /// One JSON document on stdout: each run and how it ended, or, of a dry run, how it would be started
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Run folders
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// What runs are judged by, at the first target return
    #[arg(long, value_enum, default_value_t = Measure::Return)]
    pub score: Measure,
    /// What learning curves are drawn over
    #[arg(long = "x", value_enum, default_value_t = Axis::Updates)]
    pub axis: Axis,
    /// Gets report.md, curves.svg and curves.png; must not exist
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Gets one page that stands alone: tables that sort, curves, films, settings; must not exist
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// One JSON document on stdout: each group's scores, and the tables
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

fn device(text: &str) -> Result<tch::Device, String> {
    let index = match text {
        "cpu" => return Ok(tch::Device::Cpu),
        "cuda" => Some(0),
        _ => text.strip_prefix("cuda:").and_then(|index| index.parse().ok()),
    };
    let index = index.ok_or("cpu, cuda or cuda:N is wanted")?;
    let count = tch::Cuda::device_count();
    if (index as i64) < count {
        Ok(tch::Device::Cuda(index))
    } else {
        Err(format!("this libtorch sees {count} CUDA devices"))
    }
}

/// One of a few words, which `--help` and completions list.
fn word<T>() -> impl TypedValueParser<Value = T>
where
    T: JsonSchema + DeserializeOwned + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(possible::<T>())
        .map(|text| serde_json::from_value(text.into()).expect("the schema lists the words that can be read"))
}

/// What `T` chooses among, each with the first sentence of its documentation.
fn possible<T: JsonSchema>() -> Vec<PossibleValue> {
    possible_values(config::choices::<T>())
}

/// Names, each with the first sentence of its documentation.
fn possible_values(choices: Vec<(String, String)>) -> Vec<PossibleValue> {
    let value = |(name, docs): (String, String)| {
        let sentence = docs.split(". ").next().unwrap_or_default().trim_end_matches('.').to_owned();
        PossibleValue::new(name).help(sentence)
    };
    choices.into_iter().map(value).collect()
}

fn methods() -> PossibleValuesParser {
    let values = possible::<AdapterConfig>().into_iter();
    PossibleValuesParser::new(values.map(|value| match value.get_name() {
        "full_fine_tuning" => value.alias("full"),
        _ => value,
    }))
}

fn algorithms() -> PossibleValuesParser {
    let none = PossibleValue::new("none").help("Not at all: the run is offline only");
    PossibleValuesParser::new([none].into_iter().chain(possible::<OnlineConfig>()))
}

/// `g=14` as a name and a JSON value; what is no JSON value is a string.
fn kwarg(text: &str) -> Result<(String, serde_json::Value), String> {
    let (key, value) = text.split_once('=').ok_or("no `=`; write KEY=VALUE, such as g=14")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((key.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_s_help_has_an_example() {
        fn check(command: &clap::Command) {
            let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(example.contains("eva-rl "), "{} has no example", command.get_name());
            command.get_subcommands().for_each(check);
        }
        Cli::command().get_subcommands().for_each(check);
    }
}
