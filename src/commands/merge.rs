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
    let merged = agent::read_merged(&args.policy, Some(&args.adapter), Device::Cpu)?;
    write_folder(&args.out, |folder| Ok(model::write(&merged, folder)?))?;
    print(&format!("the merged policy is in {}", args.out.display()))
}
