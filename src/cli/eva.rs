//! The arguments of `eva`, and of its search, which `bench eva` measures.

use std::path::PathBuf;

use clap::Args;
use eva_rl_agents::adapter::Rank;
use eva_rl_agents::eva::{Directions, Score, Settings, SolverKind, Stop};
use eva_rl_agents::site::Token;

use super::{ReadingArgs, StatisticsArgs, word};
use crate::failure::{InputError, OrInput};

/// How EVA finds directions and shares out ranks.
#[derive(Clone, Debug, Args)]
pub struct EvaSearchArgs {
    /// Mean rank of a site
    #[arg(long, value_name = "R", default_value = "8", value_parser = clap::value_parser!(u16).range(1..))]
    pub rank: u16,
    /// A site's rank may grow to rho times the mean
    #[arg(long, value_name = "X", default_value_t = 2.0)]
    pub rho: f64,
    /// Cosine at which directions count as converged: to those of all data with --stop halves (0.995 where absent), to
    /// the last batch's with turn (0.99)
    #[arg(long, value_name = "X")]
    pub tau: Option<f64>,
    /// When data suffices: halves (tell how far off the whole is) or turn (PEFT's rule: a batch turns nothing)
    #[arg(long, value_name = "RULE", default_value = "halves", value_parser = word::<Stop>())]
    pub stop: Stop,
    /// auto, gram (exact), sketch (for wide maps) or incremental (PEFT's, with --stop turn)
    #[arg(long, value_name = "SOLVER", default_value = "auto", value_parser = word::<SolverKind>())]
    pub solver: SolverKind,
    /// Share ranks out by ratio (of explained variance, as PEFT) or paper (its Eq. 6)
    #[arg(long, value_name = "SCORE", default_value = "ratio", value_parser = word::<Score>())]
    pub score: Score,
    /// Which directions A gets: leading, or a control: rotated, permuted, trailing, random
    #[arg(long, value_name = "WHICH", default_value = "leading", value_parser = word::<Directions>())]
    pub directions: Directions,
    /// Take E[x xᵀ] as it is, without centring activations
    #[arg(long)]
    pub uncentred: bool,
    /// Divide each row of A by the root of its singular value
    #[arg(long)]
    pub whiten: bool,
    /// Kinds of tokens that count: return, state, action, reward; all where absent
    #[arg(long, value_name = "KIND", num_args = 1.., value_parser = word::<Token>())]
    pub tokens: Vec<Token>,
    /// Stop after this many batches, converged or not
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_batches: u32,
}

impl EvaSearchArgs {
    /// The settings, checked.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        let refuse = |text: String| Err(InputError(text).into());
        if !(1.0..=1000.0).contains(&self.rho) {
            return refuse(format!("--rho is {}, and a number in [1, 1000] is wanted", self.rho));
        }
        let tau = self.tau.unwrap_or(self.stop.usual_tau());
        if !(tau > 0.0 && tau <= 1.0) {
            return refuse(format!("--tau is {tau}, and a number in (0, 1] is wanted"));
        }
        let settings = Settings {
            rank: Rank::try_from(self.rank).or_input()?,
            rho: self.rho,
            solver: self.solver,
            centred: !self.uncentred,
            score: self.score,
            stop: self.stop,
            tau,
            directions: self.directions,
            whiten: self.whiten,
        };
        settings.check().or_input()?;
        Ok(settings)
    }
}

/// Arguments of `eva`.
#[derive(Debug, Args)]
pub struct EvaArgs {
    /// A policy folder
    pub policy: PathBuf,
    /// What the policy's files may lack
    #[command(flatten)]
    pub statistics: StatisticsArgs,
    /// A Minari dataset
    #[arg(long, value_name = "DATASET")]
    pub data: PathBuf,
    /// How faults in the dataset are taken
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// How EVA searches
    #[command(flatten)]
    pub search: EvaSearchArgs,
    /// The adapters' scale is alpha / rank; alpha = rank where absent
    #[arg(long, value_name = "X")]
    pub alpha: Option<f64>,
    /// Ends of the names of the maps to adapt; all of the blocks' where absent
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub target_modules: Vec<String>,
    /// Scale by alpha / √rank, as rsLoRA does
    #[arg(long)]
    pub rslora: bool,
    /// Add DoRA's magnitudes
    #[arg(long)]
    pub dora: bool,
    /// Windows a batch
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: u32,
    /// Decides the windows
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// The adapter's folder, which must not exist
    #[arg(long, value_name = "ADAPTER")]
    pub out: PathBuf,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}
