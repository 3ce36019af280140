//! What is measured, and the median of what was measured.

use std::path::Path;

use eva_rl_agents::adapter::Scaling;
use eva_rl_agents::model::{Conditioning, Given, TransformerPolicy};
use eva_rl_envs::VecEnv;
use tch::Device;

use crate::cli::EnvArgs;
use crate::policies;
use crate::support::errors::OrInput;

/// Scaling of the adapters, which costs the same whatever it is.
pub const SCALING: Scaling = Scaling { alpha: 1.0, rank_stabilised: false };

/// What the benchmarks of a policy need.
pub struct Subject {
    /// The policy.
    pub policy: TransformerPolicy,
    /// How it reads the environment.
    pub conditioning: Conditioning,
    /// The environment.
    pub env: Box<dyn VecEnv>,
}

/// Reads them, and checks that they fit each other.
pub fn subject(path: &Path, given: Given, args: &EnvArgs, whole: bool) -> anyhow::Result<Subject> {
    let (kwargs, count) = (args.options.kwargs(), args.options.num_envs as usize);
    let make = if whole { eva_rl_envs::make_with } else { eva_rl_envs::make_halves };
    let policy = policies::read_transformer(path, given, Device::Cpu)?;
    let bridge = args.options.bridge(&args.id, policy.reads_images())?;
    let env = make(&args.id, &kwargs, count, &bridge).or_input()?;
    let (whose, shown) = (format!("`{}`", args.id), policies::Shown::by(env.spec()));
    let policy = policies::fitted_transformer(policy, shown, &env.spec().action, &whose)?;
    let conditioning = policies::conditioning(policy.config(), policy.device(), path, None)?;
    policies::check_spaces(policy.config(), shown, &env.spec().action, &whose)?;
    Ok(Subject { policy, conditioning, env })
}

/// The middle one of an odd number, the upper of the two middle ones of an even number.
pub fn median(mut secs: Vec<f64>) -> f64 {
    secs.sort_by(f64::total_cmp);
    secs[secs.len() / 2]
}
