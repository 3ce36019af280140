//! A grid of runs, as the user wrote it: configs, and what is varied of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::checks::Checks;
use super::error::ConfigError;
use super::load::{load_plan, read, read_text};
use super::run::RunPlan;

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

impl SweepConfig {
    /// Checks what types cannot.
    fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        checks.value("configs", "empty", !self.configs.is_empty(), "must hold at least one");
        checks.value("seeds", "empty", !self.seeds.is_empty(), "must hold at least one");
        for config in &self.configs {
            checks.value("configs", format!("{config:?}"), is_plain(&stem(config)), "must name a file");
        }
        for (index, axis) in self.axes.iter().enumerate() {
            let key = format!("axes[{index}].choices");
            checks.value(&key, "empty", !axis.choices.is_empty(), "must hold at least one");
            for name in axis.choices.keys() {
                let wanted = "must be a name without `/`, `\\` and `..`, because it names the runs' folders";
                checks.value(&key, format!("{name:?}"), is_plain(name), wanted);
            }
            for text in axis.choices.values().flatten() {
                let set = text.split('=').next().unwrap_or_default().trim();
                checks.value(&key, format!("{text:?}"), set != "seed", "must leave the seed to `seeds`");
            }
        }
        checks.done()
    }
}

impl SweepPlan {
    /// Reads a grid and checks every run of it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let (text, name) = (read_text(path)?, path.display().to_string());
        let sweep: SweepConfig = read(&text, &name, &[])?;
        sweep.check()?;
        let mut runs: Vec<SweepRun> = Vec::new();
        for seed in &sweep.seeds {
            for config in &sweep.configs {
                for (names, mut overrides) in combinations(&sweep.axes) {
                    overrides.push(format!("seed={seed}"));
                    let plan = load_plan(config, &overrides)?;
                    let name = [vec![stem(config)], names, vec![format!("seed{seed}")]].concat().join("-");
                    let taken = runs.iter().any(|run| run.name == name);
                    let wanted = "must be one run's alone: give configs and choices names that differ";
                    let mut checks = Checks::default();
                    checks.value("the name of a run", format!("{name:?} twice"), !taken, wanted);
                    checks.done()?;
                    runs.push(SweepRun { name, config: config.clone(), overrides, plan });
                }
            }
        }
        Ok(Self { runs })
    }
}

/// What a config is called.
fn stem(config: &Path) -> String {
    config.file_stem().unwrap_or_default().to_string_lossy().into_owned()
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
    use std::fs;

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
            assert!(told.contains("`axes[0].choices` is ") && told.contains("without `/`"), "{told}");
        }
        let told = refused("[[axes]]\nchoices = { a = [\"seed=3\"] }");
        assert!(
            told.contains("`axes[0].choices` is \"seed=3\", and must leave the seed to `seeds`"),
            "{told}"
        );
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
