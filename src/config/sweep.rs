//! A grid of runs, as the user wrote it: configs, and what is varied of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{ConfigError, check, load, parse};

/// Every config with every combination of one choice an axis and with every seed is a run.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepConfig {
    /// Relative to the folder that the program is run in.
    pub configs: Vec<PathBuf>,
    /// The runs' seeds.
    pub seeds: Vec<u64>,
    /// What is varied, in the order of the runs' names.
    #[serde(default)]
    pub axes: Vec<AxisConfig>,
}

/// What is varied.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AxisConfig {
    /// Overrides of the config, as `--set` takes them, by the name of the choice.
    pub choices: BTreeMap<String, Vec<String>>,
}

/// One run of a grid.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepRun {
    /// The names of its config, its choices and its seed, such as `demo-eva-seed1`.
    pub name: String,
    /// What it begins with.
    pub config: PathBuf,
    /// Overrides of the config.
    pub overrides: Vec<String>,
}

/// A grid that was checked: every run's config is one that `train` takes.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepPlan {
    /// Seeds change last, so that every cell has a run before any has two.
    pub runs: Vec<SweepRun>,
}

impl SweepPlan {
    /// Reads a grid and checks every run of it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|error| ConfigError::Read { path: path.to_owned(), reason: error.to_string() })?;
        let sweep: SweepConfig = parse(&text, &path.display().to_string())?;
        check("configs", "empty", !sweep.configs.is_empty(), "must hold at least one")?;
        check("seeds", "empty", !sweep.seeds.is_empty(), "must hold at least one")?;
        let empty = sweep.axes.iter().position(|axis| axis.choices.is_empty());
        let key = format!("axes[{}].choices", empty.unwrap_or_default());
        check(key, "empty", empty.is_none(), "must hold at least one")?;
        let mut runs = Vec::new();
        for seed in &sweep.seeds {
            for config in &sweep.configs {
                for (names, mut overrides) in combinations(&sweep.axes) {
                    overrides.push(format!("seed={seed}"));
                    load(config, &overrides)?.plan()?;
                    let stem = config.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                    let name = [vec![stem], names, vec![format!("seed{seed}")]].concat().join("-");
                    runs.push(SweepRun { name, config: config.clone(), overrides });
                }
            }
        }
        Ok(Self { runs })
    }
}

/// The names and the overrides of every combination of one choice an axis.
fn combinations(axes: &[AxisConfig]) -> Vec<(Vec<String>, Vec<String>)> {
    let mut found = vec![(Vec::new(), Vec::new())];
    for axis in axes {
        let mut longer = Vec::new();
        for (names, overrides) in &found {
            for (name, more) in &axis.choices {
                let mut names = names.clone();
                names.push(name.clone());
                longer.push((names, [&overrides[..], more].concat()));
            }
        }
        found = longer;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(choices: &[(&str, &str)]) -> AxisConfig {
        let choices = choices.iter().map(|(name, text)| ((*name).to_owned(), vec![(*text).to_owned()]));
        AxisConfig { choices: choices.collect() }
    }

    #[test]
    fn every_choice_meets_every_other() {
        let found = combinations(&[axis(&[("a", "x=1"), ("b", "x=2")]), axis(&[("c", "y=1"), ("d", "y=2")])]);
        let names: Vec<String> = found.iter().map(|(names, _)| names.join("-")).collect();
        assert_eq!(names, ["a-c", "a-d", "b-c", "b-d"]);
        assert_eq!(found[1].1, ["x=1", "y=2"]);
        assert_eq!(combinations(&[]), [(Vec::new(), Vec::new())]);
    }
}
