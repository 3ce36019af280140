//! `eva --activations`: EVA of any model whose activations are in files.

use std::collections::BTreeMap;
use std::path::Path;

use eva_rl_agents::adapter::site::{ModuleName, Site};
use eva_rl_agents::adapter::{AdapterFolder, AdapterSet};
use eva_rl_agents::adapter_init::eva::{Eva, EvaOptions, EvaResult};
use eva_rl_agents::adapter_init::{eva_adapters, shared_inputs};
use eva_rl_agents::model::{PolicyConfig, Tap};
use eva_rl_agents::tensor::Rows;
use tch::{Device, Tensor};

use crate::data::Activations;
use crate::support::errors::{InputError, OrInput};
use crate::support::progress;
use crate::support::seeds::{self, Purpose};
use crate::support::signals;

/// What a search has found, and what is written of it.
pub(super) struct Found {
    pub adapters: AdapterSet,
    /// What the adapter's folder says.
    pub folder: AdapterFolder,
    pub eva: EvaResult<ModuleName>,
    /// The policy's, whose statistics may be the data's; none of activations.
    pub config: Option<PolicyConfig>,
}

/// Searches the activations of a folder, each piece as a batch, until the components have converged.
pub(super) fn search(folder: &Path, options: &EvaOptions, seed: u64) -> anyhow::Result<Found> {
    let refuse = |text: String| anyhow::Error::from(InputError(text));
    let activations = Activations::open(folder).map_err(refuse)?;
    let sites = match options.lora.target_modules.as_slice() {
        [] => activations.sites.clone(),
        ends => Site::ending(&activations.sites, ends).or_input()?,
    };
    check_rank(options, &sites)?;
    seeds::seed_torch(seed, Purpose::Weights, 1);
    let pieces = activations.pieces();
    let mut eva = Eva::new(shared_inputs(&sites), options.clone(), Some(pieces), Device::Cpu);
    let bar = progress::bar(options.max_batches, "batches");
    let mut done = false;
    while !done && eva.batches() < options.max_batches {
        signals::check()?;
        let rows = activations.piece(eva.batches() % pieces).map_err(refuse)?;
        let found = if eva.can_split() {
            let ([first, second], sites) = (halves(&rows), sites.as_slice());
            eva.observe_split(|tap| show(sites, &first, tap), move |tap| show(sites, &second, tap))
        } else {
            eva.observe(|tap| show(&sites, &rows, tap))
        };
        let now = found.or_input()?;
        bar.set_position(now.batches as u64);
        bar.set_message(format!("{:.0}% converged", 100.0 * now.converged_fraction));
        done = now.done;
    }
    bar.finish_and_clear();
    let eva = eva.finish().or_input()?;
    let mut adapters = eva_adapters(&eva, &sites, options.lora.scale());
    adapters.dropout = options.lora.dropout;
    let folder = AdapterFolder {
        base: activations.base.unwrap_or_default(),
        revision: None,
        fingerprint: None,
        rank: options.lora.rank.get(),
        scaling: options.lora.scaling(),
        origin: options.origin(),
        fan_in_fan_out: sites.iter().all(|site| site.fan_in_fan_out),
        kernels: BTreeMap::new(),
    };
    Ok(Found { adapters, folder, eva, config: None })
}

/// Refuses a rank that some module is too narrow for.
pub(super) fn check_rank(options: &EvaOptions, sites: &[Site]) -> anyhow::Result<()> {
    let rank = options.lora.rank.get();
    match sites.iter().map(|site| site.input).min() {
        Some(width) if rank > width => {
            Err(InputError(format!("--rank is {rank}, and the narrowest module has {width} inputs")).into())
        }
        _ => Ok(()),
    }
}

/// The first and the second half of the rows of every input: `[rows, width]` each.
fn halves(rows: &[Tensor]) -> [Vec<Tensor>; 2] {
    [0, 1].map(|half| rows.iter().map(|x| x.tensor_split(2, 0).swap_remove(half)).collect())
}

/// Shows the rows of every input, which are in the order of the sites' groups.
fn show(sites: &[Site], rows: &[Tensor], tap: &mut dyn Tap<ModuleName>) {
    for site in sites {
        tap.record(&site.module, &Rows::of(&rows[site.input_group]));
    }
}
