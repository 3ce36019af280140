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
use crate::support::signals;

/// What a search has found, and what is written of it.
pub(super) struct Found {
    pub adapters: AdapterSet,
    /// What the adapter's folder says.
    pub folder: AdapterFolder,
    pub eva: EvaResult<ModuleName>,
    /// The policy's config, whose statistics may be the data's.
    pub statistics: Option<PolicyConfig>,
}

/// Searches the activations of a folder piece by piece until the components have converged.
pub fn search(folder: &Path, options: &EvaOptions) -> anyhow::Result<Found> {
    let refuse = |text: String| anyhow::Error::from(InputError(text));
    let activations = Activations::open(folder).map_err(refuse)?;
    let sites = named(&activations.sites, &options.lora.target_modules).map_err(refuse)?;
    let rank = options.lora.rank.get();
    if let Some(width) = sites.iter().map(|site| site.input).min().filter(|width| rank > *width) {
        return Err(refuse(format!("--rank is {rank}, and the narrowest module has {width} inputs")));
    }
    let inputs = shared_inputs(&sites);
    let mut eva = Eva::new(inputs, options.clone(), Some(activations.pieces()), Device::Cpu);
    let bar = progress::bar(options.max_batches.min(activations.pieces()), "pieces");
    for piece in 0..activations.pieces().min(options.max_batches) {
        signals::check()?;
        let rows = activations.piece(piece).map_err(refuse)?;
        let sites = sites.as_slice();
        let now = match eva.can_split() {
            true => {
                let (first, second) = (half_of(&rows, 0), half_of(&rows, 1));
                eva.observe_split(|tap| show(sites, &first, tap), move |tap| show(sites, &second, tap))
            }
            false => eva.observe(|tap| show(sites, &rows, tap)),
        };
        let now = now.or_input()?;
        bar.inc(1);
        bar.set_message(format!("{:.0}% converged", 100.0 * now.converged_fraction));
        if now.done {
            break;
        }
    }
    bar.finish_and_clear();
    let eva = eva.finish().or_input()?;
    let mut adapters = eva_adapters(&eva, &sites, options.lora.scale());
    adapters.dropout = options.lora.dropout;
    let folder = AdapterFolder {
        base: activations.base.unwrap_or_default(),
        revision: None,
        fingerprint: None,
        rank,
        scaling: options.lora.scaling(),
        origin: options.origin(),
        fan_in_fan_out: sites.iter().all(|site| site.fan_in_fan_out),
        kernels: BTreeMap::new(),
    };
    Ok(Found { adapters, folder, eva, statistics: None })
}

/// The modules whose names end in one of `ends`, or all where there are none.
fn named(sites: &[Site], ends: &[String]) -> Result<Vec<Site>, String> {
    let fits = |site: &Site, end: &str| {
        let name = site.module.as_str();
        name == end || name.ends_with(&format!(".{end}"))
    };
    if let Some(end) = ends.iter().find(|end| !sites.iter().any(|site| fits(site, end))) {
        let known: Vec<&str> = sites.iter().map(|site| site.module.as_str()).collect();
        return Err(format!("no site's name ends in `{end}`, expected one of {}", known.join(", ")));
    }
    let wanted = |site: &&Site| ends.is_empty() || ends.iter().any(|end| fits(site, end));
    Ok(sites.iter().filter(wanted).cloned().collect())
}

/// The first or the second half of the rows of every input: `[rows, width]` each.
fn half_of(rows: &[Tensor], half: i64) -> Vec<Tensor> {
    let part = |x: &Tensor| {
        let (count, _) = x.size2().expect("[rows, width]");
        x.narrow(0, half * (count / 2), if half == 0 { count / 2 } else { count - count / 2 })
    };
    rows.iter().map(part).collect()
}

/// Shows the rows of every input, which are in the order of the sites' groups.
fn show(sites: &[Site], rows: &[Tensor], tap: &mut dyn Tap<ModuleName>) {
    for site in sites {
        tap.record(&site.module, &Rows::of(&rows[site.input_group]));
    }
}
