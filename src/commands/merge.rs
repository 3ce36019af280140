//! `merge`: an adapter folded into its policy's weights.

use eva_rl_agents::model;
use serde_json::json;
use tch::Device;

use crate::cli::MergeArgs;
use crate::policies;
use crate::support::atomic::{refuse_existing, write_folder};
use crate::support::errors::InputError;
use crate::support::stdout::{print, print_json};

/// Runs `merge`.
pub fn run(args: MergeArgs) -> anyhow::Result<()> {
    refuse_existing(&args.out)?;
    let source = args.given.source(&args.policy, args.adapter.as_deref())?;
    if source.adapter.is_none() && source.statistics.is_none() {
        let text =
            format!("{:?} is a whole policy, with no adapter to merge; --adapter names one", source.policy);
        return Err(InputError(text).into());
    }
    let mut policy = policies::read_transformer(&source.policy, source.given(), Device::Cpu)?;
    let data = args.of_data.read(policy.reads_images())?;
    source.take_statistics(policy.config_mut(), data.as_slice(), args.of_data.data.as_deref())?;
    let merged = match &source.adapter {
        None => policy,
        Some(adapter) => {
            let (_, adapters) = policies::read_adapter(adapter, &policy)?;
            tch::no_grad(|| policy.merged(&adapters))
        }
    };
    write_folder(&args.out, |folder| Ok(model::write(&merged, folder)?))?;
    if args.json {
        return print_json(
            &json!({ "policy": source.policy, "adapter": source.adapter, "merged": args.out }),
        );
    }
    print(&format!("the merged policy is in {}", args.out.display()))
}
