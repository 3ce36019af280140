//! What training itself came to: how fast the loss falls, and what a method's start costs.

use std::collections::BTreeMap;
use std::path::Path;

use super::comparison::LabelledRun;
use super::statistics::mean;
use super::tabular::Table;
use crate::metrics::{self, Line};
use crate::run_folder::RunState;
use crate::support::errors::InputError;

/// Updates after which the loss is looked at.
const LOSS_AT: [usize; 2] = [100, 1000];

/// One run's training.
#[derive(Clone, Debug, Default, PartialEq)]
struct Training {
    /// Mean loss of the ten updates before each of [`LOSS_AT`], where the run has come so far.
    losses: [Option<f64>; 2],
    /// The same at the end.
    last_loss: Option<f64>,
    /// Seconds that the adapters' start took, where there are any.
    start_secs: Option<f64>,
    /// Seconds of the whole run, its start and its evaluations too, where it has a checkpoint.
    secs: Option<f64>,
}

/// A row per method, over all of its runs; the losses are comparable where all methods have the same tasks.
pub fn by_method(runs: &[LabelledRun]) -> anyhow::Result<Table> {
    let mut methods: BTreeMap<&str, Vec<Training>> = BTreeMap::new();
    for run in runs {
        methods.entry(&run.method).or_default().push(Training::read(&run.folder, run.state.as_ref())?);
    }
    let mut table = Table::new("", &["method", "runs"]);
    table.head.extend(LOSS_AT.map(|updates| format!("loss at update {updates}")));
    table.head.extend(["last loss", "initialisation, s", "fraction of the run"].map(str::to_owned));
    for (method, runs) in &methods {
        let mean_of = |of: &dyn Fn(&Training) -> Option<f64>| {
            runs.iter().map(of).collect::<Option<Vec<f64>>>().map(|values| mean(&values))
        };
        let tell =
            |value: Option<f64>, digits: usize| value.map_or("–".to_owned(), |x| format!("{x:.digits$}"));
        let fraction = mean_of(&|run| Some(100.0 * run.start_secs? / run.secs?));
        let mut row = vec![(*method).to_owned(), runs.len().to_string()];
        row.extend((0..LOSS_AT.len()).map(|index| tell(mean_of(&|run| run.losses[index]), 5)));
        row.push(tell(mean_of(&|run| run.last_loss), 5));
        row.push(tell(mean_of(&|run| run.start_secs), 2));
        row.push(fraction.map_or("–".to_owned(), |fraction| format!("{fraction:.1}%")));
        table.rows.push(row);
    }
    Ok(table)
}

impl Training {
    /// Reads the metrics of a run whose last checkpoint has this state.
    fn read(run: &Path, state: Option<&RunState>) -> anyhow::Result<Self> {
        let path = run.join("metrics.jsonl");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| InputError(format!("cannot read {path:?}: {error}")))?;
        let mut found = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line: Line = serde_json::from_str(line).map_err(|error| {
                InputError(format!("{path:?} has no metric in line {}: {error}", number + 1))
            })?;
            if line.tag == metrics::INITIALISATION_SECS.tag {
                found.start_secs = line.value;
            }
            if line.tag == metrics::LOSS.tag {
                found.last_loss = line.value;
                for (loss, at) in found.losses.iter_mut().zip(LOSS_AT) {
                    if line.step == at {
                        *loss = line.value;
                    }
                }
            }
        }
        // A run's clock starts once its adapters have.
        found.secs = state.map(|state| state.elapsed_secs + found.start_secs.unwrap_or(0.0));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_takes_the_seconds_of_all_its_parts_whichever_clock_its_lines_have() {
        let folder = tempfile::tempdir().unwrap();
        let line = |tag: &str, step: usize, value: f64, wall: f64| {
            format!("{{\"step\":{step},\"tag\":\"{tag}\",\"value\":{value},\"wall_secs\":{wall}}}\n")
        };
        // The second part's first line comes later in it than the first part's last.
        let text = [
            line("time/initialisation", 0, 2.0, 2.5),
            line("train/loss", 100, 0.5, 10.0),
            line("train/loss", 110, 0.4, 12.0),
            line("train/loss", 1000, 0.1, 30.0),
        ];
        std::fs::write(folder.path().join("metrics.jsonl"), text.concat()).unwrap();
        let state = RunState { elapsed_secs: 38.0, ..RunState::default() };
        let found = Training::read(folder.path(), Some(&state)).unwrap();
        let losses = [Some(0.5), Some(0.1)];
        let wanted = Training { losses, last_loss: Some(0.1), start_secs: Some(2.0), secs: Some(40.0) };
        assert_eq!(found, wanted);
        assert_eq!(Training::read(folder.path(), None).unwrap().secs, None);
    }
}
