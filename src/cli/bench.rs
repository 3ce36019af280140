//! The command line of `bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::eva::EvaFlags;
use super::shared::{EnvArgs, EnvOptions, GivenArgs, word};
use crate::rollout::Inference;

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    pub what: BenchWhat,
}

/// The stages that can be measured apart.
#[derive(Debug, Subcommand)]
pub enum BenchWhat {
    /// Environments alone, with random actions
    #[command(after_help = "Example:\n  eva-rl bench env --env CartPole-v1 --num-envs 1024")]
    Env(BenchEnvArgs),
    /// The policy's whole forward pass on windows of random numbers
    #[command(after_help = "Example:\n  eva-rl bench forward --policy policies/pendulum")]
    Forward(BenchForwardArgs),
    /// Environments, and the policy choosing every action
    #[command(after_help = "Example:\n  eva-rl bench rollout --policy policies/pendulum --env Pendulum-v1")]
    Rollout(BenchRolloutArgs),
    /// EVA initialisation, beside the forward passes that it needs
    #[command(after_help = "Example:\n  eva-rl bench eva --policy policies/pendulum")]
    Eva(BenchEvaArgs),
    /// Updates of the adapters: windows, forward, backward, AdamW
    #[command(after_help = "Example:\n  eva-rl bench update --policy policies/pendulum --env Pendulum-v1")]
    Update(BenchUpdateArgs),
    /// Windows drawn from a dataset
    #[command(after_help = "Example:\n  eva-rl bench windows --data datasets/pendulum-g14-v0")]
    Windows(BenchWindowsArgs),
}

/// Arguments of `bench windows`.
#[derive(Debug, Args)]
pub struct BenchWindowsArgs {
    /// The dataset: a folder, or minari:NAMESPACE/NAME
    #[arg(long, value_name = "DATASET")]
    pub data: PathBuf,
    /// Steps a window
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub steps: u32,
    /// Windows per batch
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch_size: u16,
    /// Hold images in memory, as exploration does, and not in the dataset's file
    #[arg(long)]
    pub in_memory: bool,
    /// How long to measure
    #[arg(long, value_name = "SECS", default_value_t = 5.0)]
    pub seconds: f64,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bench env`.
#[derive(Debug, Args)]
pub struct BenchEnvArgs {
    /// The environment
    #[command(flatten)]
    pub env: EnvArgs,
    /// How long to measure
    #[arg(long, value_name = "SECS", default_value_t = 2.0)]
    pub seconds: f64,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bench forward`.
#[derive(Debug, Args)]
pub struct BenchForwardArgs {
    /// A policy folder, or hf:OWNER/NAME
    #[arg(long, value_name = "POLICY")]
    pub policy: PathBuf,
    /// Windows per batch
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: u32,
    /// Steps a window
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// How long to measure
    #[arg(long, value_name = "SECS", default_value_t = 5.0)]
    pub seconds: f64,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bench eva`.
#[derive(Debug, Args)]
pub struct BenchEvaArgs {
    /// A policy folder, or hf:OWNER/NAME
    #[arg(long, value_name = "POLICY")]
    pub policy: PathBuf,
    /// Windows, as predict takes them, cut into batches that are gone through again and again; forty random
    /// batches of 20 steps where absent
    #[arg(long, value_name = "FILE")]
    pub inputs: Option<PathBuf>,
    /// Windows per batch
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: u32,
    /// EVA's options
    #[command(flatten)]
    pub eva: EvaFlags,
    /// Searches to take the median of
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeats: u32,
    /// Gets the adapter of the last search; must not exist
    #[arg(long, value_name = "ADAPTER")]
    pub out: Option<PathBuf>,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bench rollout`.
#[derive(Debug, Args)]
pub struct BenchRolloutArgs {
    /// A policy folder, or hf:OWNER/NAME
    #[arg(long, value_name = "POLICY")]
    pub policy: PathBuf,
    /// What the policy's files may lack
    #[command(flatten)]
    pub given: GivenArgs,
    /// The environment
    #[command(flatten)]
    pub env: EnvArgs,
    /// What a step computes: window (the whole context again) or cached (its own tokens)
    #[arg(long, value_name = "HOW", default_value = "window", value_parser = word::<Inference>())]
    pub inference: Inference,
    /// Play all environments by one thread, and not two halves by two
    #[arg(long)]
    pub whole: bool,
    /// How long to measure
    #[arg(long, value_name = "SECS", default_value_t = 5.0)]
    pub seconds: f64,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bench update`.
#[derive(Debug, Args)]
pub struct BenchUpdateArgs {
    /// A policy folder, or hf:OWNER/NAME
    #[arg(long, value_name = "POLICY")]
    pub policy: PathBuf,
    /// What the policy's files may lack
    #[command(flatten)]
    pub given: GivenArgs,
    /// The environment whose random episodes windows are drawn from
    #[arg(long = "env", value_name = "ID")]
    pub id: Option<String>,
    /// How it is made
    #[command(flatten)]
    pub options: EnvOptions,
    /// Windows, as predict takes them, cut into batches that are gone through again and again
    #[arg(long, value_name = "FILE", required_unless_present = "id", conflicts_with = "id")]
    pub inputs: Option<PathBuf>,
    /// Windows of a batch
    #[arg(long, value_name = "B", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch_size: u16,
    /// Rank of the adapters
    #[arg(long, value_name = "R", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    pub rank: u16,
    /// With DoRA's magnitudes
    #[arg(long)]
    pub dora: bool,
    /// Embed every image in every update, as if none had been shown before
    #[arg(long)]
    pub new_images: bool,
    /// How long to measure
    #[arg(long, value_name = "SECS", default_value_t = 5.0)]
    pub seconds: f64,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}
