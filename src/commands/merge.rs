//! `merge`: an adapter folded into its policy's weights.

use eva_rl_agents::model;
use serde_json::json;
use tch::Device;

use crate::cli::MergeArgs;
use crate::policies;
use crate::policies::Source;
use crate::support::atomic::{refuse_existing, write_folder};
use crate::support::errors::InputError;
use crate::support::stdout::{print, print_json};

/// Runs `merge`.
pub fn run(args: MergeArgs) -> anyhow::Result<()> {
    refuse_existing(&args.out)?;
    let source = Source::of(&args.policy, args.adapter.as_deref(), args.given.given())?;
    let Some(adapter) = &source.adapter else {
        let text =
            format!("{:?} is a whole policy, with no adapter to merge; --adapter names one", source.policy);
        return Err(InputError(text).into());
    };
    let policy = policies::read_transformer(&source.policy, source.given(), Device::Cpu)?;
    let (_, adapters) = policies::read_adapter(adapter, &policy)?;
    let merged = tch::no_grad(|| policy.merged(&adapters));
    write_folder(&args.out, |folder| Ok(model::write(&merged, folder)?))?;
    if args.json {
        return print_json(&json!({ "policy": source.policy, "adapter": adapter, "merged": args.out }));
    }
    print(&format!("the merged policy is in {}", args.out.display()))
}
