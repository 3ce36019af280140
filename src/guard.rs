//! Where a batch goes wrong: the first linear map that is given, or makes, numbers that are not finite.

use std::fmt;

use eva_rl_agents::linalg::Rows;
use eva_rl_agents::pass::Tap;
use eva_rl_agents::site::Site;

/// Where numbers cease to be finite in a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Culprit {
    /// The batch itself: the map's input is not finite, and nothing came before it.
    Batch(Site),
    /// This map, or what follows it up to the next.
    Site(Site),
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch(site) => {
                write!(f, "the batch holds numbers that are not finite, which `{site}` reads")
            }
            Self::Site(site) => write!(f, "`{site}` is the first whose outputs are not finite"),
        }
    }
}

/// A tap that looks for the first input that is not finite.
#[derive(Debug, Default)]
pub struct Watch {
    last: Option<Site>,
    found: Option<Culprit>,
}

impl Watch {
    /// What it saw; where `ends_finite` is false and no input was to blame, the last map is.
    pub fn culprit(&self, ends_finite: bool) -> Option<Culprit> {
        let last = self.last.filter(|_| !ends_finite).map(Culprit::Site);
        self.found.or(last)
    }
}

impl Tap for Watch {
    fn record(&mut self, site: Site, x: &Rows) {
        if self.found.is_none() && x.dense().isfinite().all().int64_value(&[]) == 0 {
            // The embeddings read the batch; every later map reads what the one before it made.
            self.found = Some(match self.last {
                Some(last) if !matches!(site, Site::Embed(_)) => Culprit::Site(last),
                _ => Culprit::Batch(site),
            });
        }
        self.last = Some(site);
    }
}
