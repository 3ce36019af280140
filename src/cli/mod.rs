//! The command line: what may be asked, with an example for each command.

mod bench;
mod eva;
mod shared;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use self::shared::{OfDataArgs, TaskEnvArgs, algorithms, device, kwarg, methods};
use crate::config::TargetReturn;
use crate::evaluation::TargetSweep;
use crate::report::{Axis, Measure};

pub use bench::{
    BenchArgs, BenchEnvArgs, BenchEvaArgs, BenchForwardArgs, BenchRolloutArgs, BenchUpdateArgs, BenchWhat,
    BenchWindowsArgs,
};
pub use eva::EvaArgs;
pub use shared::{ActingArgs, EnvArgs, GivenArgs, ReadingArgs};

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
        after_help = "Example:\n  eva-rl evaluate policies/pendulum --env Pendulum-v1 --env-kwarg g=14 --episodes 20\n  eva-rl evaluate policies/pendulum --env Pendulum-v1 --target-sweep=-1500:0:7 --figure targets.svg"
    )]
    Evaluate(EvaluateArgs),
    /// Write offline trajectories as a Minari dataset
    #[command(
        after_help = "Example:\n  eva-rl collect --env CartPole-v1 --policy scripted --noise 0.2 --episodes 50 --out datasets/cartpole-v0"
    )]
    Collect(CollectArgs),
    /// Write a D4RL file's episodes as a Minari dataset
    #[command(
        after_help = "Example:\n  eva-rl convert tests/golden/d4rl/timeouts.hdf5 --out datasets/timeouts-v0"
    )]
    Convert(ConvertArgs),
    /// Initialise an adapter from a dataset's activations, in PEFT's format
    #[command(
        override_usage = "eva-rl eva <POLICY> --data <DATASET> --out <ADAPTER> [OPTIONS]\n       eva-rl eva --activations <DIR> --out <ADAPTER> [OPTIONS]",
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
    /// Say how a run's adapters moved: angles, ranks, and what they share with the activations
    #[command(after_help = "Example:\n  eva-rl subspaces runs/demo-2")]
    Subspaces(SubspacesArgs),
    /// Upload a run's best adapter or policy with its model card to the Hugging Face Hub
    #[command(
        after_help = "Example:\n  eva-rl push runs/demo-2 hf:OWNER/pendulum-eva --base hf:OWNER/pendulum --private"
    )]
    Push(PushArgs),
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
    /// The policy to adapt, a folder or hf:OWNER/NAME; a new one is trained where absent
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<PathBuf>,
    /// What the policy's files may lack
    #[command(flatten)]
    pub given: GivenArgs,
    /// A Minari dataset, a folder or minari:NAMESPACE/NAME; may be given more than once
    #[arg(long, value_name = "DATASET", required = true)]
    pub data: Vec<PathBuf>,
    /// What is trained: a table of `adapter`; eva where absent, full_fine_tuning for a new policy
    #[arg(long, value_name = "METHOD", value_parser = methods())]
    pub method: Option<String>,
    /// The online algorithm: a table of `online`
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

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// A policy folder, hf:OWNER/NAME, a TorchScript module (.pt), or a run, its best/ or a checkpoint, with what it
    /// has trained
    pub policy: PathBuf,
    /// What the policy's files may lack
    #[command(flatten)]
    pub given: GivenArgs,
    /// The dataset of what is asked for
    #[command(flatten)]
    pub of_data: OfDataArgs,
    /// An adapter folder of that policy, or hf:OWNER/NAME
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// The environment
    #[command(flatten)]
    pub env: TaskEnvArgs,
    /// Episodes for each target return
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub episodes: u32,
    /// Target return, or a multiple of the greatest one of `--data`, such as best or best*1.5; may be given more than
    /// once; the policy's own where absent
    #[arg(long = "target-return", value_name = "X", allow_hyphen_values = true)]
    pub target_returns: Vec<TargetReturn>,
    /// Ask for N returns from LOW to HIGH, and print what is achieved as a table; without a range, for 7 from the least
    /// return of `--data` to half as much above its greatest, or, without data, by what the environment's reference
    /// scores or else the policy's own target say
    #[arg(long, value_name = "LOW:HIGH:N", num_args = 0..=1, require_equals = true, default_missing_value = "",
        conflicts_with = "target_returns")]
    pub target_sweep: Option<TargetSweep>,
    /// A dataset of demonstrations that every environment's context begins with, of a policy whose context goes on over
    /// episodes (Vintix)
    #[arg(long, value_name = "DATASET")]
    pub prompt: Option<PathBuf>,
    /// The figure of `--target-sweep`, .svg or .png; must not exist
    #[arg(long, value_name = "FILE", requires = "target_sweep")]
    pub figure: Option<PathBuf>,
    /// Decides the episodes
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// How the policy acts
    #[command(flatten)]
    pub acting: ActingArgs,
    /// Video the first episode; must not exist
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
    pub env: TaskEnvArgs,
    /// scripted, random, or a policy: a folder, hf:OWNER/NAME, a TorchScript module (.pt) or a run
    #[arg(long, value_name = "scripted|random|POLICY")]
    pub policy: String,
    /// What the policy's files may lack
    #[command(flatten)]
    pub given: GivenArgs,
    /// The dataset of what is asked for
    #[command(flatten)]
    pub of_data: OfDataArgs,
    /// Episodes to play
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub episodes: u32,
    /// Noise on actions: its standard deviation in halves of the action range, or the fraction of random actions if
    /// discrete; of several, separated by commas, episodes take one each, in turn
    #[arg(long, value_name = "S", value_delimiter = ',', default_value = "0")]
    pub noise: Vec<f32>,
    /// A policy's target return, or a multiple of the greatest one of `--data`, such as best or best*1.5; its own where
    /// absent
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub target_return: Option<TargetReturn>,
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

/// Arguments of `convert`.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// An HDF5 file of flat arrays: observations, actions, rewards, terminals, and timeouts and next_observations
    /// where it has them
    pub file: PathBuf,
    /// The environment of the data, whose action bounds and step limit then count; they are found in the data where
    /// absent
    #[arg(long, value_name = "ID")]
    pub env: Option<String>,
    /// An option of the environment, such as g=14
    #[arg(long = "env-kwarg", value_name = "KEY=VALUE", value_parser = kwarg, requires = "env")]
    pub kwargs: Vec<(String, serde_json::Value)>,
    /// The dataset's folder, which must not exist
    #[arg(long, value_name = "DATASET")]
    pub out: PathBuf,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// A policy folder or hf:OWNER/NAME; or a run, its best/ or a checkpoint
    pub policy: PathBuf,
    /// What the policy's files may lack; the merged policy's config.json gets it
    #[command(flatten)]
    pub given: GivenArgs,
    /// The dataset of what is asked for
    #[command(flatten)]
    pub of_data: OfDataArgs,
    /// An adapter folder of that policy, or hf:OWNER/NAME; a run has its own
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
    /// A policy folder, hf:OWNER/NAME, a TorchScript module (.pt), or a run, its best/ or a checkpoint, with what it
    /// has trained
    pub policy: PathBuf,
    /// What the policy's files may lack
    #[command(flatten)]
    pub given: GivenArgs,
    /// An adapter folder of that policy, or hf:OWNER/NAME
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
    /// A policy, adapter, dataset or run folder, a run's best/ or checkpoint, a TorchScript module (.pt),
    /// hf:OWNER/NAME or minari:NAMESPACE/NAME
    pub path: PathBuf,
    /// What a policy's files may lack
    #[command(flatten)]
    pub given: GivenArgs,
    /// The dataset of what is asked for
    #[command(flatten)]
    pub of_data: OfDataArgs,
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
    /// Gets a folder per run; may hold some already
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
    /// Gets one page that stands alone: tables that sort, curves, videos, settings; must not exist
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// One JSON document on stdout: each group's scores, and the tables
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `subspaces`.
#[derive(Debug, Args)]
pub struct SubspacesArgs {
    /// The run, whose checkpoints are looked at, the one of update 0 among them
    pub run: PathBuf,
    /// Episodes that the policy of each checkpoint plays
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    pub episodes: u16,
    /// Gets subspaces.json and TensorBoard's events, and must not exist; RUN/subspaces where absent
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Let datasets name environments of Python modules, which are then imported
    #[arg(long)]
    pub allow_imports: bool,
    /// One JSON document on stdout: every module's numbers
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `push`.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// A run, whose best adapter or policy is meant, its best/ or a checkpoint; or an adapter or policy folder
    pub path: PathBuf,
    /// The repository, hf:OWNER/NAME, which is made where there is none
    #[arg(value_name = "REPO")]
    pub repo: PathBuf,
    /// The branch, which is made where there is none; main where absent
    #[arg(long, value_name = "BRANCH")]
    pub revision: Option<String>,
    /// Make the repository private; refused where it is public already
    #[arg(long)]
    pub private: bool,
    /// What the commit says
    #[arg(long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Where the policy that an adapter adapts is on the Hub, hf:OWNER/NAME, if it was read from a folder
    #[arg(long, value_name = "POLICY")]
    pub base: Option<PathBuf>,
    /// Say what would be uploaded, with the model card, and upload nothing
    #[arg(long)]
    pub dry_run: bool,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
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
