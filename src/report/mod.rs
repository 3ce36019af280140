//! Runs side by side: by task and method, over all tasks, and as figures.

mod figure;
mod pairs;
mod statistics;
mod table;
mod training;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::config::{self, RunConfig};
use crate::evaluation::{Evaluated, Evaluation};
use crate::failure::{InputError, OrInput};
use crate::run_dir::RunDir;

pub use figure::draw;
pub use pairs::in_pairs;
pub use table::{by_best_rank, by_task, over_tasks, side_by_side};
pub use training::by_method;

/// What a run is judged by, at the first target return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// Mean undiscounted return
    Return,
    /// Percentage of episodes that succeeded
    Success,
    /// 100 at the reference expert, 0 at random play
    Normalized,
}

impl Measure {
    /// What an axis of it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Return => "mean return",
            Self::Success => "success, %",
            Self::Normalized => "normalised score",
        }
    }

    /// Whether scores of different tasks may be averaged.
    pub fn compares_tasks(self) -> bool {
        self != Self::Return
    }

    fn of(self, found: &Evaluation) -> Option<f64> {
        match self {
            Self::Return => Some(found.mean_return),
            Self::Success => found.success_rate.map(|rate| 100.0 * rate),
            Self::Normalized => found.normalized_score,
        }
    }
}

/// The runs of one method on one task, of different seeds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Each run's scores by updates, the first before any.
    pub curves: Vec<BTreeMap<usize, f64>>,
}

impl Group {
    /// Each run's first score.
    pub fn first(&self) -> Vec<f64> {
        self.curves.iter().filter_map(|curve| curve.values().next()).copied().collect()
    }

    /// Each run's last score.
    pub fn last(&self) -> Vec<f64> {
        self.curves.iter().filter_map(|curve| curve.values().next_back()).copied().collect()
    }

    /// The scores at each number of updates at which every run was evaluated.
    pub fn by_updates(&self) -> BTreeMap<usize, Vec<f64>> {
        let mut all: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for (updates, score) in self.curves.iter().flatten() {
            all.entry(*updates).or_default().push(*score);
        }
        all.retain(|_, scores| scores.len() == self.curves.len());
        all
    }
}

/// Runs by task, then by method.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// At least one task with at least one run.
    pub tasks: BTreeMap<String, BTreeMap<String, Group>>,
}

/// A run's folder, and what it was.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledRun {
    folder: PathBuf,
    config: RunConfig,
    /// What its method is called, with its learning rate where the method has several.
    method: String,
}

/// Reads what run folders were.
pub fn label(folders: &[PathBuf]) -> anyhow::Result<Vec<LabelledRun>> {
    let read = |folder: &PathBuf| config::load(&RunDir::open(folder)?.config(), &[]).or_input();
    let configs = folders.iter().map(read).collect::<anyhow::Result<Vec<RunConfig>>>()?;
    let methods = labels(&configs);
    let runs = folders.iter().cloned().zip(configs).zip(methods);
    Ok(runs.map(|((folder, config), method)| LabelledRun { folder, config, method }).collect())
}

impl Comparison {
    /// Reads the runs' evaluations.
    pub fn read(runs: &[LabelledRun], measure: Measure) -> anyhow::Result<Self> {
        let mut tasks: BTreeMap<String, BTreeMap<String, Group>> = BTreeMap::new();
        // Options tell tasks apart, unless the ids do and all have the same options.
        let ids: BTreeSet<&str> = runs.iter().map(|run| run.config.env.id.as_str()).collect();
        let alike = runs.iter().all(|run| run.config.env.kwargs == runs[0].config.env.kwargs);
        let short = ids.len() > 1 && alike;
        for LabelledRun { folder, config, method } in runs {
            let env = &config.env;
            let task = match short || env.kwargs.is_empty() {
                true => env.id.clone(),
                false => format!("{} {}", env.id, serde_json::to_string(&env.kwargs)?),
            };
            let curve = read_curve(folder, measure)?;
            tasks.entry(task).or_default().entry(method.clone()).or_default().curves.push(curve);
        }
        Ok(Self { tasks })
    }

    /// The tasks on which each of these methods has runs.
    pub fn shared_by(&self, methods: &[&str]) -> Vec<&BTreeMap<String, Group>> {
        self.tasks.values().filter(|found| methods.iter().all(|m| found.contains_key(*m))).collect()
    }

    /// Every method, in order.
    pub fn methods(&self) -> BTreeSet<&str> {
        self.tasks.values().flat_map(BTreeMap::keys).map(String::as_str).collect()
    }
}

/// What each run's method is called, with its learning rate where a method has several.
fn labels(configs: &[RunConfig]) -> Vec<String> {
    let mut rates: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for config in configs {
        rates.entry(config.method_label()).or_default().insert(config.optimiser.learning_rate.to_bits());
    }
    let label = |config: &RunConfig| {
        let method = config.method_label();
        match rates[&method].len() {
            1 => method,
            _ => format!("{method}, learning rate {}", config.optimiser.learning_rate),
        }
    };
    configs.iter().map(label).collect()
}

fn read_curve(run: &Path, measure: Measure) -> anyhow::Result<BTreeMap<usize, f64>> {
    let path = run.join("evaluation.json");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| InputError(format!("cannot read {path:?}: {error}")))?;
    let evaluations: Vec<Evaluated> = serde_json::from_str(&text)
        .map_err(|error| InputError(format!("{path:?} is no list of evaluations: {error}")))?;
    let mut curve = BTreeMap::new();
    for evaluated in &evaluations {
        let found = evaluated.targets.first().and_then(|target| measure.of(target));
        let found = found.ok_or_else(|| {
            let name = measure.name().trim_end_matches(", %");
            InputError(format!("{path:?} has no {name} at update {}", evaluated.updates))
        })?;
        curve.insert(evaluated.updates, found);
    }
    if curve.is_empty() {
        return Err(InputError(format!("{path:?} holds no evaluations")).into());
    }
    Ok(curve)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_told_with_its_learning_rate_where_it_has_several() {
        let config = |name: &str, rate: f64| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(name);
            config::load(&path, &[format!("optimiser.learning_rate={rate:?}")]).unwrap()
        };
        let configs =
            [config("demo.toml", 0.001), config("demo.toml", 0.01), config("demo-full.toml", 0.001)];
        let wanted = ["EVA, rank 8, ODT, learning rate 0.001", "EVA, rank 8, ODT, learning rate 0.01"];
        assert_eq!(labels(&configs), [wanted[0], wanted[1], "full fine-tuning, ODT"]);
    }
}
