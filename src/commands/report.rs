//! `report`: runs side by side, by task and method: tables and a figure of their learning curves.

use anyhow::Context;
use serde_json::{Value, json};

use crate::cli::ReportArgs;
use crate::report::{Comparison, Table, check_axis, draw, label, page, tables, warnings};
use crate::support::atomic::{refuse_existing, write_file, write_folder};
use crate::support::errors::tell;
use crate::support::stdout::{print, print_json};

/// Runs `report`.
pub fn run(args: ReportArgs) -> anyhow::Result<()> {
    for path in args.out.iter().chain(&args.html) {
        refuse_existing(path)?;
    }
    let runs = label(&args.runs)?;
    check_axis(&runs, args.axis)?;
    let comparison = Comparison::new(&runs, args.score)?;
    let warnings = warnings(&runs);
    warnings.iter().for_each(|warning| tell(warning));
    let tables = tables(&runs, &comparison, args.score)?;
    let markdown = tables.iter().map(Table::markdown).collect::<Vec<String>>().join("\n\n");
    if args.json {
        print_json(&document(&args, &comparison, &tables, &warnings))?;
    } else {
        print(&markdown)?;
    }
    if let Some(out) = &args.out {
        write_folder(out, |folder| {
            let caption =
                draw(&comparison, args.score, args.axis, folder).context("cannot draw the curves")?;
            let (name, axis) = (args.score.name(), args.axis.name());
            let warnings: String = warnings.iter().map(|warning| format!("- {warning}\n")).collect();
            let warnings = if warnings.is_empty() { warnings } else { format!("Note:\n\n{warnings}\n") };
            let folders: String = args.runs.iter().map(|run| format!("- `{}`\n", run.display())).collect();
            let text = format!(
                "# Runs compared\n\nScores are of evaluations at the first target return: {name}.\n\n{warnings}{markdown}\n\n![Over {axis}: {name}](curves.svg)\n\n{caption}\n\nRuns:\n\n{folders}"
            );
            std::fs::write(folder.join("report.md"), text)?;
            Ok(())
        })?;
    }
    if let Some(html) = &args.html {
        let text = page(&runs, &comparison, &tables, &warnings, args.score, args.axis);
        write_file(html, |aside| Ok(std::fs::write(aside, &text)?))?;
    }
    Ok(())
}

/// Everything that is compared, as one JSON document.
fn document(args: &ReportArgs, comparison: &Comparison, tables: &[Table], warnings: &[String]) -> Value {
    let groups = comparison.tasks.iter().flat_map(|(task, methods)| {
        methods.iter().map(move |(method, group)| {
            json!({
                "task": task,
                "method": method,
                "runs": group.curves.len(),
                "first": group.first(),
                "last": group.last(),
                "curves": group.curves, // scores by updates, a run each
                "env_steps": group.env_steps,
            })
        })
    });
    json!({
        "score": args.score.name(),
        "groups": groups.collect::<Vec<Value>>(),
        "tables": tables,
        "warnings": warnings,
    })
}
