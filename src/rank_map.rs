//! The map that EVA makes of a policy: rank and explained variance of each site, as a table, JSON and a figure.

use std::path::Path;

use anyhow::Context;
use eva_rl_agents::eva::SiteReport;
use eva_rl_agents::site::Site;
use plotters::prelude::*;
use serde::{Deserialize, Serialize};

/// The file of the numbers, in an adapter's folder.
const NUMBERS: &str = "eva.json";

/// The file of the figure.
const FIGURE: &str = "eva.svg";

/// Rank and explained variance of each site.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RankMap {
    /// Batches of data that the numbers come from.
    pub batches: usize,
    /// Every site that could have got an adapter, in the order of the forward pass.
    pub sites: Vec<SiteNumbers>,
}

/// What EVA found at one site.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SiteNumbers {
    /// Its name.
    pub site: String,
    /// Rank of its adapter; 0 means that it has none.
    pub rank: i64,
    /// Share of the site's variance that the adapter's directions explain together.
    pub explained_variance: f64,
    /// Share that each candidate direction explains, descending.
    pub explained_variance_ratio: Vec<f64>,
    /// How sure the directions are, by the rule that ended the search.
    pub cosine: f64,
}

impl RankMap {
    /// The map of what EVA found.
    pub fn new(reports: &[SiteReport<Site>], batches: usize) -> Self {
        let numbers = |report: &SiteReport<Site>| SiteNumbers {
            site: report.site.to_string(),
            rank: report.rank,
            explained_variance: report.covered(),
            explained_variance_ratio: report.explained.clone(),
            cosine: report.cosine,
        };
        Self { batches, sites: reports.iter().map(numbers).collect() }
    }

    /// Writes the numbers and the figure into `folder`, which exists.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(NUMBERS);
        std::fs::write(&path, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| format!("cannot write {path:?}"))?;
        self.draw(&folder.join(FIGURE)).context("cannot draw the map of ranks")
    }

    /// The map that an adapter's folder holds, if EVA made it.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(folder.join(NUMBERS)).ok()?).ok()
    }

    /// The map for people.
    pub fn table(&self) -> String {
        let mut table =
            format!("{:<28} {:>4}  {:>9}  {:>6}  first components", "site", "rank", "explained", "cosine");
        for site in &self.sites {
            let shares: Vec<String> =
                site.explained_variance_ratio.iter().take(4).map(|share| format!("{share:.3}")).collect();
            table += &format!(
                "\n{:<28} {:>4}  {:>8.1}%  {:>6.3}  {}",
                site.site,
                site.rank,
                100.0 * site.explained_variance,
                site.cosine,
                shares.join(" ")
            );
        }
        table
    }

    /// Two bars a site, side by side: its rank, and what that explains.
    fn draw(&self, path: &Path) -> anyhow::Result<()> {
        const NAMES: i32 = 230;
        const BARS: i32 = 220;
        const GAP: i32 = 70;
        const LINE: i32 = 22;
        const TOP: i32 = 44;
        let height = TOP + LINE * self.sites.len() as i32 + 16;
        let area =
            SVGBackend::new(path, ((NAMES + 2 * BARS + 2 * GAP) as u32, height as u32)).into_drawing_area();
        area.fill(&WHITE)?;
        let plain = ("sans-serif", 14).into_font();
        let heading = ("sans-serif", 15).into_font().style(FontStyle::Bold);
        let columns = [(NAMES, "rank"), (NAMES + BARS + GAP, "variance explained")];
        for (left, name) in columns {
            area.draw(&Text::new(name, (left, 14), heading.clone()))?;
        }
        let most = self.sites.iter().map(|site| site.rank).max().unwrap_or(1).max(1) as f64;
        for (line, site) in self.sites.iter().enumerate() {
            let top = TOP + LINE * line as i32;
            area.draw(&Text::new(site.site.clone(), (12, top), plain.clone()))?;
            let shares = [
                (site.rank as f64 / most, site.rank.to_string(), RGBColor(0, 114, 178)),
                (
                    site.explained_variance,
                    format!("{:.0}%", 100.0 * site.explained_variance),
                    RGBColor(213, 94, 0),
                ),
            ];
            for ((left, _), (share, label, colour)) in columns.into_iter().zip(shares) {
                let right = left + (share * f64::from(BARS)).round() as i32;
                area.draw(&Rectangle::new([(left, top), (right, top + LINE - 7)], colour.filled()))?;
                area.draw(&Text::new(label, (right + 6, top), plain.clone()))?;
            }
        }
        area.present()?;
        Ok(())
    }
}
