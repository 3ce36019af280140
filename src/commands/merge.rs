//! `merge`: an adapter folded into its policy's weights.

use eva_rl_agents::model;
use tch::Device;

use super::print;
use crate::agent;
use crate::cli::MergeArgs;
use crate::output::{refuse_existing, write_folder};

/// Runs `merge`.
pub fn run(args: MergeArgs) -> anyhow::Result<()> {
    refuse_existing(&args.out)?;
    let policy = agent::read_transformer(&args.policy, args.statistics.file(), Device::Cpu)?;
    let (_, adapters) = agent::read_adapter(&args.adapter, &policy)?;
    let merged = tch::no_grad(|| policy.merged(&adapters));
    write_folder(&args.out, |folder| Ok(model::write(&merged, folder)?))?;
    print(&format!("the merged policy is in {}", args.out.display()))
}
