//! Every table of a report, and what axes its runs have.

use super::axis::Axis;
use super::comparison::{Comparison, LabelledRun, Measure};
use super::tabular::Table;
use super::{pairs, table, training};
use crate::support::errors::InputError;

/// Every table of a report.
pub fn tables(runs: &[LabelledRun], comparison: &Comparison, measure: Measure) -> anyhow::Result<Vec<Table>> {
    let mut tables: Vec<Table> = table::side_by_side(comparison, measure).into_iter().collect();
    if measure.compares_tasks() {
        tables.extend(table::over_tasks(comparison));
        tables.extend(pairs::in_pairs(comparison));
        tables.extend(table::by_best_rank(comparison));
    }
    tables.push(training::by_method(runs)?);
    tables.push(table::by_task(comparison));
    Ok(tables)
}

/// Refuses an axis of environment steps for runs that have none.
pub fn check_axis(runs: &[LabelledRun], axis: Axis) -> anyhow::Result<()> {
    let without = |run: &&LabelledRun| run.evaluations.iter().all(|found| found.env_steps == 0);
    match runs.iter().find(without) {
        Some(run) if axis == Axis::EnvSteps => Err(InputError(format!(
            "{:?} counts no environment steps: it is offline, or was written before they were; use `--x updates`",
            run.folder
        ))
        .into()),
        _ => Ok(()),
    }
}
