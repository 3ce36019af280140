//! `eva`: EVA initialisation alone, as an adapter that PEFT can go on with.

use std::path::Path;

use eva_rl_agents::adapter::AdapterFolder;
use eva_rl_agents::adapter_init::eva::EvaOptions;
use eva_rl_agents::adapter_init::{AdapterMethod, Initialised};
use serde_json::json;
use tch::Device;

use super::eva_activations::{self, Found, check_rank};
use crate::cli::EvaArgs;
use crate::config::AdapterConfig;
use crate::data::{self, Replay};
use crate::policies;
use crate::policies::Base;
use crate::report::eva_summary::EvaSummary;
use crate::support::atomic::{refuse_existing, write_folder};
use crate::support::errors::{OrInput, tell};
use crate::support::progress;
use crate::support::ranks;
use crate::support::seeds::{self, Purpose};
use crate::support::signals;
use crate::support::stdout::{print, print_json};
use crate::support::threads;
use crate::training::{TaskWindows, check_tokens};

/// Runs `eva`.
pub fn run(args: EvaArgs) -> anyhow::Result<()> {
    refuse_existing(&args.out)?;
    let options = args.eva.options(args.batch_size)?;
    let found = match (&args.activations, &args.policy, &args.data) {
        (Some(folder), ..) => eva_activations::search(folder, &options, args.seed)?,
        (None, Some(policy), Some(data)) => search(&args, policy, data, &options)?,
        _ => unreachable!("the command line wants a policy with a dataset, or activations"),
    };
    let Found { adapters, folder: facts, eva, config } = found;
    let summary = EvaSummary::new(&eva);
    if ranks::world().is_first() {
        write_folder(&args.out, |folder| {
            facts.write(&adapters, folder)?;
            if let Some(config) = &config {
                policies::write_statistics(config, folder)?;
            }
            summary.write(folder)
        })?;
    }

    if !eva.progress.done {
        tell(&format!("EVA {eva}, because --max-batches ended it"));
    }
    if args.json {
        return print_json(&json!({
            "batches": eva.progress.batches,
            "converged": eva.progress.done,
            "converged_fraction": eva.progress.converged_fraction,
            "sites": summary.sites,
        }));
    }
    print(&summary.table())?;
    print(&format!(
        "{} batches; the adapter, its table and its figure are in {}",
        eva.progress.batches,
        args.out.display()
    ))
}

/// Searches a policy's activations over a dataset.
fn search(
    args: &EvaArgs,
    policy_path: &Path,
    data_path: &Path,
    options: &EvaOptions,
) -> anyhow::Result<Found> {
    let source = args.given.source(policy_path, None)?;
    let policy = policies::read_transformer(policy_path, source.given(), Device::Cpu)?;
    let dataset = data::read_named(data_path, args.reading.reading(policy.reads_images()))?;
    let (whose, shown) = (format!("the dataset {data_path:?}"), policies::Shown::in_data(&dataset));
    let mut policy = policies::fitted_transformer(policy, shown, &dataset.action, &whose)?;
    source.take_statistics(policy.config_mut(), std::slice::from_ref(&dataset), Some(data_path))?;
    // Windows of data are conditioned on what was earned, whatever the target return.
    let target = policy.config().target_return.or(Some(0.0));
    let conditioning = policies::conditioning(policy.config(), policy.device(), policy_path, target)?;
    threads::for_eva(policy.config(), args.batch_size as usize);
    if let Some(faults) = dataset.faults() {
        tell(&format!("{whose}: {faults}"));
    }
    policies::check_spaces(policy.config(), shown, &dataset.action, &whose)?;
    policies::tell_far_states(policy.config(), &dataset.trajectories, &whose);
    policies::check_texts(policy.config(), &dataset.trajectories, &whose)?;
    check_tokens(&AdapterConfig::Eva(options.clone()), &policy)?;
    let sites = policy.sites_named(&options.lora.target_modules).or_input()?;
    check_rank(options, &sites)?;

    let replay = Replay::of(dataset, &conditioning);
    let mut windows = TaskWindows::new(&conditioning, &replay, args.batch_size as usize, args.seed);
    seeds::seed_torch(args.seed, Purpose::Weights, 1);
    let bar = progress::bar(options.max_batches, "batches");
    let initialised = options.initialise(&policy, &sites, &mut windows, &mut |progress| {
        bar.set_position(progress.batches as u64);
        bar.set_message(format!("{:.0}% converged", 100.0 * progress.converged_fraction));
    });
    bar.finish_and_clear();
    signals::check()?;
    let Initialised { adapters, eva } = initialised.or_input()?;
    let mut adapters = adapters.expect("EVA makes adapters");
    let eva = eva.expect("EVA has a result");
    adapters.dropout = options.lora.dropout;
    if options.lora.dora {
        policy.init_dora(&mut adapters);
    }
    let base = Base::of(policy_path)?;
    let folder = AdapterFolder {
        base: base.name,
        revision: base.revision,
        fingerprint: Some(policy.fingerprint()),
        rank: options.lora.rank.get(),
        scaling: options.lora.scaling(),
        origin: options.origin(),
        fan_in_fan_out: policy.sites().all(|site| site.fan_in_fan_out),
        kernels: policy.kernels(),
    };
    Ok(Found { adapters, folder, eva, config: Some(policy.config().clone()) })
}
