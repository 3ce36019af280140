//! `eva`: EVA initialisation alone, as an adapter that PEFT can go on with.

use eva_rl_agents::adapter::{AdapterFolder, Origin, Rank, Scaling, fingerprint};
use eva_rl_agents::eva::{Eva, Settings, SiteReport};
use eva_rl_agents::site::Site;
use serde_json::json;
use tch::Device;

use super::{print, print_json};
use crate::agent;
use crate::cli::EvaArgs;
use crate::data::{self, Replay};
use crate::failure::{InputError, OrInput, tell};
use crate::output::{refuse_existing, write_folder};
use crate::rng::{self, Purpose};

/// Runs `eva`.
pub fn run(args: EvaArgs) -> anyhow::Result<()> {
    refuse_existing(&args.out)?;
    let refuse = |text: String| -> anyhow::Result<()> { Err(InputError(text).into()) };
    if !(1.0..=1000.0).contains(&args.rho) {
        return refuse(format!("--rho is {}, and a number in [1, 1000] is wanted", args.rho));
    }
    if !(args.tau > 0.0 && args.tau <= 1.0) {
        return refuse(format!("--tau is {}, and a number in (0, 1] is wanted", args.tau));
    }
    let alpha = args.alpha.unwrap_or(f64::from(args.rank));
    if !(alpha.is_finite() && alpha > 0.0) {
        return refuse(format!("--alpha is {alpha}, and a positive number is wanted"));
    }
    let policy = agent::read_transformer(&args.policy, args.statistics.file(), Device::Cpu)?;
    let conditioning = agent::conditioning(policy.config(), policy.device(), &args.policy)?;
    let dataset = data::read(&args.data).or_input()?;
    let whose = format!("the dataset {:?}", args.data);
    agent::check_spaces(policy.config(), dataset.observation_width, &dataset.action, &whose)?;
    let sites = chosen_sites(&policy.sites(), &args.target_modules)?;
    let narrowest = sites.iter().filter_map(|site| policy.site_shape(*site)).map(|(input, _)| input).min();
    if narrowest.is_some_and(|width| i64::from(args.rank) > width) {
        return refuse(format!("--rank is {}, and the narrowest site has {narrowest:?} inputs", args.rank));
    }

    let mut replay =
        Replay::new(dataset.trajectories.len(), dataset.observation_width, dataset.action.width());
    dataset.trajectories.into_iter().for_each(|trajectory| replay.push(trajectory));
    let rank = Rank::try_from(args.rank).or_input()?;
    let scaling = Scaling { alpha, rank_stabilised: args.rslora };
    let mut search = Eva::new(&policy, &sites, Settings { rank, scaling, rho: args.rho, tau: args.tau });
    let mut settled = 0.0;
    while settled < 1.0 && search.batches() < args.max_batches as usize {
        let mut windows_rng = rng::generator(args.seed, Purpose::EvaWindows, search.batches());
        let windows = replay.sample(args.batch_size as usize, conditioning.context_length, &mut windows_rng);
        settled = search.observe(&policy, &conditioning.inputs(&windows.view())).or_input()?;
    }
    let batches = search.batches();
    let (mut adapters, reports) = search.finish(&policy, 0.0);
    if args.dora {
        policy.start_dora(&mut adapters);
    }
    let facts = AdapterFolder {
        base: args.policy.display().to_string(),
        fingerprint: Some(fingerprint(policy.weights())),
        rank: rank.get(),
        scaling,
        origin: Origin::Eva { rho: args.rho, tau: args.tau },
    };
    write_folder(&args.out, |folder| Ok(facts.write(&adapters, folder)?))?;

    if settled < 1.0 {
        tell(&format!(
            "{:.0}% of the sites had settled when --max-batches ended the search",
            100.0 * settled
        ));
    }
    if args.json {
        let sites: Vec<_> = reports
            .iter()
            .map(|report| {
                json!({
                    "site": report.site.to_string(),
                    "rank": report.rank,
                    "explained_variance_ratio": report.explained,
                    "cosine": report.cosines,
                })
            })
            .collect();
        return print_json(&json!({ "batches": batches, "converged_share": settled, "sites": sites }));
    }
    print(&table(&reports))?;
    print(&format!("{batches} batches; the adapter is in {}", args.out.display()))
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

/// Rank and explained variance of each site, for people.
fn table(reports: &[SiteReport]) -> String {
    let mut table = format!("{:<28} {:>4}  {:>9}  first components", "site", "rank", "explained");
    for report in reports {
        let shares: Vec<String> =
            report.explained.iter().take(4).map(|share| format!("{share:.3}")).collect();
        table += &format!(
            "\n{:<28} {:>4}  {:>8.1}%  {}",
            report.site.to_string(),
            report.rank,
            100.0 * report.covered(),
            shares.join(" ")
        );
    }
    table
}
