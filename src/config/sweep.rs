//! A grid of runs, as the user wrote it: configs, and what is varied of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::load::{load, read};
use super::{ConfigError, RunPlan, check};

/// Every config with every combination of one choice an axis and with every seed is a run.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
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
    /// The config with its overrides, checked.
    pub plan: RunPlan,
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
        let sweep: SweepConfig = read(&text, &path.display().to_string(), &[])?;
        check("configs", "empty", !sweep.configs.is_empty(), "must hold at least one")?;
        check("seeds", "empty", !sweep.seeds.is_empty(), "must hold at least one")?;
        let empty = sweep.axes.iter().position(|axis| axis.choices.is_empty());
        let key = format!("axes[{}].choices", empty.unwrap_or_default());
        check(key, "empty", empty.is_none(), "must hold at least one")?;
        for name in sweep.axes.iter().flat_map(|axis| axis.choices.keys()) {
            let wanted = "must be a name without `/`, `\\` and `..`, because it names the runs' folders";
            check("axes.choices", format!("{name:?}"), is_plain(name), wanted)?;
        }
        let overrides = sweep.axes.iter().flat_map(|axis| axis.choices.values().flatten());
        for text in overrides {
            let key = text.split('=').next().unwrap_or_default().trim();
            check("axes.choices", format!("{text:?}"), key != "seed", "must leave the seed to `seeds`")?;
        }
        let mut runs: Vec<SweepRun> = Vec::new();
        for seed in &sweep.seeds {
            for config in &sweep.configs {
                for (names, mut overrides) in combinations(&sweep.axes) {
                    overrides.push(format!("seed={seed}"));
                    let plan = load(config, &overrides)?.plan()?;
                    let stem = config.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                    check("configs", format!("{config:?}"), is_plain(&stem), "must name a file")?;
                    let name = [vec![stem], names, vec![format!("seed{seed}")]].concat().join("-");
                    let taken = runs.iter().any(|run| run.name == name);
                    let wanted = "must be one run's alone: give configs and choices names that differ";
                    check("the name of a run", format!("{name:?} twice"), !taken, wanted)?;
                    runs.push(SweepRun { name, config: config.clone(), overrides, plan });
                }
            }
        }
        Ok(Self { runs })
    }
}

/// Whether a name can be a part of a folder's name, and leads nowhere else.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\\', '\0']) && !name.contains("..")
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
    fn names_that_lead_elsewhere_are_refused_and_those_that_two_runs_would_share() {
        let folder = tempfile::tempdir().unwrap();
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/demo.toml");
        let refused = |axes: &str| {
            let path = folder.path().join("grid.toml");
            fs::write(&path, format!("configs = [{demo:?}]\nseeds = [1]\n{axes}")).unwrap();
            SweepPlan::read(&path).unwrap_err().to_string()
        };
        for name in ["a/../../escaped", "/tmp/x", "..", "a\\\\b", ""] {
            let told = refused(&format!("[[axes]]\nchoices = {{ \"{name}\" = [] }}"));
            assert!(told.contains("`axes.choices` is ") && told.contains("without `/`"), "{told}");
        }
        let told = refused("[[axes]]\nchoices = { a = [\"seed=3\"] }");
        assert!(told.contains("`axes.choices` is \"seed=3\", and must leave the seed to `seeds`"), "{told}");
        let two = "[[axes]]\nchoices = { a = [], a-b = [] }\n[[axes]]\nchoices = { b-c = [], c = [] }";
        let told = refused(two);
        assert!(told.contains("\"demo-a-b-c-seed1\" twice"), "{told}");
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
