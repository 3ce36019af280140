//! `eva`: EVA initialisation alone, as an adapter that PEFT can go on with.

use eva_rl_agents::adapter::{AdapterFolder, Scaling, fingerprint};
use eva_rl_agents::eva;
use eva_rl_agents::site::Site;
use serde_json::json;
use tch::Device;

use super::{print, print_json};
use crate::agent;
use crate::cli::EvaArgs;
use crate::data::{self, Replay};
use crate::failure::{InputError, OrInput, tell};
use crate::initialise::{Search, check_tokens};
use crate::output::{absolute, refuse_existing, write_folder};
use crate::rank_map::RankMap;
use crate::rng::{self, Purpose};
use crate::threads;

/// Runs `eva`.
pub fn run(args: EvaArgs) -> anyhow::Result<()> {
    refuse_existing(&args.out)?;
    let refuse = |text: String| -> anyhow::Result<()> { Err(InputError(text).into()) };
    let settings = args.search.settings()?;
    let rank = settings.rank.get();
    let alpha = args.alpha.unwrap_or(rank as f64);
    if !(alpha.is_finite() && alpha > 0.0) {
        return refuse(format!("--alpha is {alpha}, and a positive number is wanted"));
    }
    let policy = agent::read_transformer(&args.policy, args.statistics.file(), Device::Cpu)?;
    let conditioning = agent::conditioning(policy.config(), policy.device(), &args.policy)?;
    threads::for_eva(policy.config(), args.batch_size as usize);
    let dataset = data::read_with(&args.data, args.reading.reading()).or_input()?;
    let whose = format!("the dataset {:?}", args.data);
    if let Some(faults) = dataset.faults() {
        tell(&format!("{whose}: {faults}"));
    }
    agent::check_spaces(policy.config(), dataset.observation_width, &dataset.action, &whose)?;
    agent::tell_far_states(policy.config(), &dataset.trajectories, &whose);
    check_tokens(&args.search.tokens, &policy)?;
    let sites = chosen_sites(&policy.sites(), &args.target_modules)?;
    let narrowest = sites.iter().filter_map(|site| policy.site_shape(*site)).map(|(input, _)| input).min();
    if let Some(width) = narrowest.filter(|width| rank > *width) {
        return refuse(format!("--rank is {rank}, and the narrowest site has {width} inputs"));
    }

    let mut replay =
        Replay::new(dataset.trajectories.len(), dataset.observation_width, dataset.action.width());
    dataset.trajectories.into_iter().for_each(|trajectory| replay.push(trajectory));
    let search = Search {
        settings,
        sites: &sites,
        tokens: &args.search.tokens,
        batch_size: args.batch_size as usize,
        max_batches: args.search.max_batches as usize,
        seed: args.seed,
    };
    rng::seed_torch(args.seed, Purpose::Weights, 1);
    let (found, outcome) = search.run(&policy, &conditioning, &replay, |_, _| Ok(()))?;
    let scaling = Scaling { alpha, rank_stabilised: args.rslora };
    let mut adapters = eva::adapters(&found, &policy, scaling.scale(rank), 0.0);
    if args.dora {
        policy.start_dora(&mut adapters);
    }
    let facts = AdapterFolder {
        base: absolute(&args.policy).display().to_string(),
        fingerprint: Some(fingerprint(policy.weights())),
        rank,
        scaling,
        origin: settings.origin(),
    };
    let map = RankMap::new(&found.reports, outcome.batches);
    write_folder(&args.out, |folder| {
        facts.write(&adapters, folder)?;
        map.write(folder)
    })?;

    if !outcome.progress.done {
        tell(&format!("the search {outcome}, because --max-batches ended it"));
    }
    if args.json {
        return print_json(&json!({
            "batches": outcome.batches,
            "settled": outcome.progress.done,
            "converged_share": outcome.progress.settled,
            "sites": map.sites,
        }));
    }
    print(&map.table())?;
    print(&format!(
        "{} batches; the adapter, its table and its figure are in {}",
        outcome.batches,
        args.out.display()
    ))
}

/// The sites whose names end in one of `ends`; all where there are none.
fn chosen_sites(sites: &[Site], ends: &[String]) -> anyhow::Result<Vec<Site>> {
    let fits = |site: &Site, end: &str| {
        let name = site.to_string();
        name == end || name.ends_with(&format!(".{end}"))
    };
    if let Some(end) = ends.iter().find(|end| !sites.iter().any(|site| fits(site, end))) {
        let known: Vec<String> = sites.iter().map(Site::to_string).collect();
        let text =
            format!("--target-modules names `{end}`, which ends no map of the policy: {}", known.join(", "));
        return Err(InputError(text).into());
    }
    let wanted = |site: &&Site| ends.is_empty() || ends.iter().any(|end| fits(site, end));
    Ok(sites.iter().filter(wanted).copied().collect())
}
