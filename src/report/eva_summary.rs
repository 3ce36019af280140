//! What EVA found: rank and explained variance of each module, as a table, JSON and a figure.

use std::path::Path;

use anyhow::Context;
use eva_rl_agents::adapter::site::ModuleName;
use eva_rl_agents::adapter_init::eva::{EvaResult, SiteReport};
use maud::html;
use serde::{Deserialize, Serialize};

use crate::support::tables;

/// The file of the numbers, in an adapter's folder.
const NUMBERS: &str = "eva.json";

/// The file of the figure.
const FIGURE: &str = "eva.svg";

/// Rank and explained variance of each module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EvaSummary {
    /// Batches of data that the numbers come from.
    pub batches: usize,
    /// Every module that could have got an adapter, in the order of the forward pass.
    pub sites: Vec<SiteNumbers>,
}

/// EVA's result at one module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SiteNumbers {
    /// Its name.
    pub site: String,
    /// Rank of its adapter; 0 means that it has none.
    pub rank: i64,
    /// Fraction of the module's variance that the adapter's components explain together.
    pub explained_variance: f64,
    /// Fraction that each candidate component explains, descending.
    pub explained_variance_ratio: Vec<f64>,
    /// How sure the components are, by the rule that ended the search.
    pub cosine: f64,
}

impl EvaSummary {
    /// The summary of EVA's result.
    pub fn new(result: &EvaResult<ModuleName>) -> Self {
        let numbers = |report: &SiteReport<ModuleName>| SiteNumbers {
            site: report.site.to_string(),
            rank: report.rank,
            explained_variance: report.explained_variance(),
            explained_variance_ratio: report.explained.clone(),
            cosine: report.cosine,
        };
        Self { batches: result.progress.batches, sites: result.sites.iter().map(numbers).collect() }
    }

    /// Writes the numbers and the figure into `folder`, which exists.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(NUMBERS);
        std::fs::write(&path, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| format!("cannot write {path:?}"))?;
        let path = folder.join(FIGURE);
        std::fs::write(&path, self.figure()).with_context(|| format!("cannot write {path:?}"))
    }

    /// The summary in an adapter's folder, if EVA made it.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(folder.join(NUMBERS)).ok()?).ok()
    }

    /// A table for terminals.
    pub fn table(&self) -> String {
        let rows = self.sites.iter().map(|site| {
            let first: Vec<String> =
                site.explained_variance_ratio.iter().take(4).map(|ratio| format!("{ratio:.3}")).collect();
            vec![
                site.site.to_string(),
                site.rank.to_string(),
                format!("{:.1}%", 100.0 * site.explained_variance),
                format!("{:.3}", site.cosine),
                first.join(" "),
            ]
        });
        let head = ["module", "rank", "explained", "cosine", "first components"];
        tables::aligned(&head, &["rank", "explained", "cosine"], rows.collect())
    }

    /// Two bars per module, side by side: its rank, and what that explains.
    fn figure(&self) -> String {
        const NAMES: i32 = 230;
        const BARS: i32 = 220;
        const GAP: i32 = 70;
        const LINE: i32 = 22;
        const TOP: i32 = 44;
        let (width, height) = (NAMES + 2 * BARS + 2 * GAP, TOP + LINE * self.sites.len() as i32 + 16);
        let (ranks, explained_at) = (NAMES, NAMES + BARS + GAP);
        let most = self.sites.iter().map(|site| site.rank).max().unwrap_or(1).max(1) as f64;
        let bar = |left: i32, top: i32, fraction: f64, colour: &str, label: &str| {
            let length = (fraction * f64::from(BARS)).round() as i32;
            html! {
                rect x=(left) y=(top) width=(length) height=(LINE - 7) fill=(colour) {}
                text x=(left + length + 6) y=(top + 12) { (label) }
            }
        };
        let picture = html! {
            svg xmlns="http://www.w3.org/2000/svg" width=(width) height=(height) viewBox={"0 0 " (width) " " (height)} font-family="sans-serif" font-size="14" {
                rect width="100%" height="100%" fill="white" {}
                text x=(ranks) y="26" font-weight="bold" { "rank" }
                text x=(explained_at) y="26" font-weight="bold" { "variance explained" }
                @for (line, site) in self.sites.iter().enumerate() {
                    @let top = TOP + LINE * line as i32;
                    @let explained = site.explained_variance;
                    text x="12" y=(top + 12) { (site.site) }
                    (bar(ranks, top, site.rank as f64 / most, "#0072b2", &site.rank.to_string()))
                    (bar(explained_at, top, explained, "#d55e00", &format!("{:.0}%", 100.0 * explained)))
                }
            }
        };
        picture.into_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_s_bars_are_as_long_as_its_share_of_the_greatest() {
        let site = |name: &str, rank, explained_variance| SiteNumbers {
            site: name.to_owned(),
            rank,
            explained_variance,
            explained_variance_ratio: Vec::new(),
            cosine: 1.0,
        };
        let svg = EvaSummary { batches: 1, sites: vec![site("a<b", 4, 0.5), site("c", 1, 1.0)] }.figure();
        assert!(svg.contains("a&lt;b"), "{svg}");
        for (length, colour) in [(220, "#0072b2"), (55, "#0072b2"), (110, "#d55e00"), (220, "#d55e00")] {
            assert!(svg.contains(&format!("width=\"{length}\" height=\"15\" fill=\"{colour}\"")), "{svg}");
        }
    }
}
