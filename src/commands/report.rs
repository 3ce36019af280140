//! `report`: runs side by side, by task and method: tables and a figure of their learning curves.

use anyhow::Context;

use super::print;
use crate::cli::ReportArgs;
use crate::failure::tell;
use crate::output::{refuse_existing, write_folder};
use crate::report::{
    Comparison, by_best_rank, by_method, by_task, draw, in_pairs, label, over_tasks, side_by_side, warnings,
};

/// Runs `report`.
pub fn run(args: ReportArgs) -> anyhow::Result<()> {
    if let Some(out) = &args.out {
        refuse_existing(out)?;
    }
    let runs = label(&args.runs)?;
    let comparison = Comparison::new(&runs, args.score)?;
    let warnings = warnings(&runs);
    warnings.iter().for_each(|warning| tell(warning));
    let averages = args.score.compares_tasks();
    let tables = [
        side_by_side(&comparison, args.score),
        over_tasks(&comparison).filter(|_| averages),
        in_pairs(&comparison).filter(|_| averages),
        by_best_rank(&comparison).filter(|_| averages),
        Some(by_method(&runs)?),
        Some(by_task(&comparison)),
    ];
    let tables = tables.into_iter().flatten().collect::<Vec<String>>().join("\n\n");
    print(&tables)?;
    let Some(out) = &args.out else { return Ok(()) };
    write_folder(out, |folder| {
        let name = args.score.name();
        let figure = format!("![Over updates: {name}](curves.svg)");
        let runs: Vec<String> = args.runs.iter().map(|run| format!("- `{}`", run.display())).collect();
        let text = format!(
            "# Runs compared\n\nScores are of evaluations at the first target return: {name}.\n\n{tables}\n\n{figure}\n\nLines are means over runs; bands, where there are few methods, go from the worst run to the best.\n\nRuns:\n\n{}\n",
            runs.join("\n")
        );
        std::fs::write(folder.join("report.md"), text)?;
        draw(&comparison, args.score, folder).context("cannot draw the curves")
    })
}
