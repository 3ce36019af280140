//! One page that stands alone: tables that sort, curves that tell their values, videos, and what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::axis::Axis;
use super::comparison::{Comparison, LabelledRun, Measure};
use super::figure::{caption, runs as count_runs};
use super::groups::Settings;
use super::panel::{Panel, Shown, marker};
use super::series::styles;
use super::tabular::Table;

/// Bytes of videos that a page holds at most.
const MOST_FILMS: usize = 24_000_000;

/// Size of a panel's drawing, which the page scales.
const PANEL: (f64, f64) = (480.0, 340.0);

/// Values of a setting that a cell names; of more it says how many.
const MOST_VALUES: usize = 3;

/// Nothing of a page is fetched, and nothing that it holds may be.
const POLICY: &str =
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// The page.
pub fn page(
    runs: &[LabelledRun],
    comparison: &Comparison,
    tables: &[Table],
    warnings: &[String],
    measure: Measure,
    axis: Axis,
) -> String {
    let (videos, left_out) = videos(runs);
    let differing = differing_settings(runs);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { "Runs compared" }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                h1 { "Runs compared" }
                p { "Scores are of evaluations at the first target return: " (measure.name()) ". A click on a column's name sorts by it." }
                @if !warnings.is_empty() {
                    ul.warnings { @for warning in warnings { li { (warning) } } }
                }
                @for table in tables { (shown(table)) }
                h2 { "Learning curves" }
                (curves(comparison, measure, axis))
                @if !videos.is_empty() || left_out > 0 {
                    h2 { "Before and after" }
                    p.note { "The first episode of the first and of the last evaluation, one run of each group." }
                    div.videos { @for video in &videos { (video) } }
                    @if left_out > 0 {
                        p.note { (left_out) " more videos would make this page larger than a browser likes; they are in the runs' folders." }
                    }
                }
                @if let Some(differing) = &differing {
                    h2 { "Settings that differ" }
                    (shown(differing))
                }
                h2 { "Runs" }
                (shown(&list(runs, measure)))
                div id="tip" role="status" hidden {}
                script { (PreEscaped(include_str!("page.js"))) }
            }
        }
    }
    .into_string()
}

fn shown(table: &Table) -> Markup {
    html! {
        @if !table.intro.is_empty() { p { (table.intro) } }
        div.scroll {
            table {
                thead { tr { @for name in &table.head { th scope="col" { button type="button" { (name) } } } } }
                tbody {
                    @for row in &table.rows { tr { @for cell in row { td class=[is_number(cell).then_some("number")] { (cell) } } } }
                }
            }
        }
        @if !table.outro.is_empty() { p { (table.outro) } }
    }
}

/// Whether a cell begins with a number, and must not be broken.
fn is_number(cell: &str) -> bool {
    cell.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit())
}

fn curves(comparison: &Comparison, measure: Measure, axis: Axis) -> Markup {
    let styles = styles(comparison);
    let mut has = Shown::default();
    let panels: Vec<Markup> = comparison
        .tasks
        .iter()
        .enumerate()
        .map(|(index, (title, groups))| {
            let panel = Panel { title, groups, styles: &styles, measure, axis, size: PANEL, index };
            let (drawn, shown) = panel.draw(true);
            has = has.or(shown);
            let view = format!("0 0 {} {}", PANEL.0, PANEL.1);
            html! { svg viewBox=(view) font-family="system-ui, sans-serif" fill="#222" role="group" aria-label=(title) { (drawn) } }
        })
        .collect();
    html! {
        ul.legend {
            @for (method, style) in &styles {
                li {
                    svg viewBox="0 0 36 12" aria-hidden="true" {
                        line x1="0" x2="36" y1="6" y2="6" stroke=(style.colour) stroke-width="2" stroke-dasharray=[style.dash] {}
                        (marker(style, 18.0, 6.0))
                    }
                    (method) " (" (count_runs(comparison, method)) ")"
                }
            }
        }
        div.panels.single[panels.len() == 1] { @for panel in &panels { (panel) } }
        p.note { (caption(has)) " A point tells its values." }
    }
}

/// A pair of videos a group, of its first run that has both, and how many groups' would be too much.
fn videos(runs: &[LabelledRun]) -> (Vec<Markup>, usize) {
    let (mut videos, mut left_out, mut bytes) = (Vec::new(), 0, 0);
    let mut done = BTreeSet::new();
    for run in runs {
        if done.contains(&(&run.task, &run.method)) {
            continue;
        }
        let pair = ["before.gif", "after.gif"].map(|name| gif(&run.folder.join(name)));
        let [Some(before), Some(after)] = pair else { continue };
        done.insert((&run.task, &run.method));
        bytes += before.len() + after.len();
        if bytes > MOST_FILMS {
            left_out += 1;
            continue;
        }
        let uri = |gif: Vec<u8>| format!("data:image/gif;base64,{}", BASE64_STANDARD.encode(gif));
        videos.push(html! {
            figure.video {
                div {
                    @for (name, gif) in [("before", before), ("after", after)] {
                        figure {
                            img src=(uri(gif)) alt={"an episode " (name) " training: " (run.method)};
                            figcaption { (name) }
                        }
                    }
                }
                figcaption { (run.task) ", " (run.method) ", seed " (run.config.seed) }
            }
        });
    }
    (videos, left_out)
}

/// A file that is a GIF, and no larger than all videos together may be.
fn gif(path: &Path) -> Option<Vec<u8>> {
    let small = path.metadata().ok()?.len() <= MOST_FILMS as u64;
    std::fs::read(path).ok().filter(|bytes| small && bytes.starts_with(b"GIF8"))
}

/// A row per setting in which groups differ, a column per group; nothing where none do.
fn differing_settings(runs: &[LabelledRun]) -> Option<Table> {
    let mut groups: BTreeMap<&str, Vec<&Settings>> = BTreeMap::new();
    for run in runs {
        groups.entry(&run.method).or_default().push(&run.settings);
    }
    let keys: BTreeSet<&str> = runs.iter().flat_map(|run| run.settings.keys()).map(String::as_str).collect();
    let cell = |settings: &Vec<&Settings>, key: &str| {
        let values: BTreeSet<&str> =
            settings.iter().map(|settings| settings.get(key).map_or("–", String::as_str)).collect();
        match values.len() {
            many if many > MOST_VALUES => format!("{many} values"),
            _ => values.into_iter().collect::<Vec<_>>().join("; "),
        }
    };
    let mut table = Table::new("", &["setting"]);
    table.head.extend(groups.keys().map(|group| (*group).to_owned()));
    for key in keys {
        let cells: Vec<String> = groups.values().map(|settings| cell(settings, key)).collect();
        if cells.iter().any(|other| *other != cells[0]) {
            table.rows.push([vec![key.to_owned()], cells].concat());
        }
    }
    (!table.rows.is_empty()).then_some(table)
}

/// A row per run.
fn list(runs: &[LabelledRun], measure: Measure) -> Table {
    let head =
        ["run", "task", "method", "seed", "updates", "environment steps", "before", "after", "seconds"];
    let mut table = Table::new("", &head);
    for run in runs {
        let (first, last) = (&run.evaluations[0], &run.evaluations[run.evaluations.len() - 1]);
        let score = |evaluated: &crate::evaluation::Evaluated| {
            let score = evaluated.targets.first().and_then(|target| measure.of(target));
            score.map_or("–".to_owned(), |score| format!("{score:.1}"))
        };
        table.rows.push(vec![
            run.folder.display().to_string(),
            run.task.clone(),
            run.method.clone(),
            run.config.seed.to_string(),
            last.updates.to_string(),
            last.env_steps.to_string(),
            score(first),
            score(last),
            run.state.as_ref().map_or("–".to_owned(), |state| format!("{:.0}", state.elapsed_secs)),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn run(folder: &Path, method: &str, overrides: &[&str]) -> LabelledRun {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/demo.toml");
        let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
        let config = config::load(&path, &overrides).unwrap();
        let evaluation = |updates: usize, mean: f64| {
            serde_json::json!({ "updates": updates, "targets": [{
                "target_return": -150.0, "episodes": 2, "mean_return": mean, "std_return": 0.5,
                "interval": [0.0, 1.0], "mean_length": 9.0, "success_rate": null, "normalized_score": null,
                "inference": "window", "max_return_to_go": null,
            }] })
        };
        let text = serde_json::json!([evaluation(0, -9.0), evaluation(10, -2.5)]).to_string();
        LabelledRun {
            folder: folder.to_owned(),
            settings: super::super::groups::settings(&config, &text).unwrap(),
            config,
            evaluations: serde_json::from_str(&text).unwrap(),
            state: None,
            task: "<img src=x>".to_owned(),
            method: method.to_owned(),
        }
    }

    fn page_of(runs: &[LabelledRun]) -> String {
        let comparison = Comparison::new(runs, Measure::Return).unwrap();
        let tables = super::super::tables(runs, &comparison, Measure::Return).unwrap_or_default();
        page(runs, &comparison, &tables, &["</ul><b>".to_owned()], Measure::Return, Axis::Updates)
    }

    #[test]
    fn a_page_fetches_nothing_and_what_files_say_is_escaped() {
        let folder = tempfile::tempdir().unwrap();
        let text = page_of(&[run(folder.path(), "</script><script>alert(1)", &["env.num_envs=4"])]);
        for forbidden in ["src=\"http", "href=", "<img src=x>", "<script>alert", "</ul><b>", "url(http"] {
            assert!(!text.contains(forbidden), "{forbidden}");
        }
        assert!(text.contains("&lt;/script&gt;&lt;script&gt;alert(1)"));
    }

    #[test]
    fn a_page_has_the_videos_of_a_group_and_the_settings_that_differ() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for name in ["before.gif", "after.gif"] {
            std::fs::write(folders[0].path().join(name), b"GIF89a").unwrap();
            std::fs::write(folders[1].path().join(name), b"<html>").unwrap(); // not a video
        }
        let text = page_of(&[
            run(folders[0].path(), "EVA, alpha 8", &[]),
            run(folders[1].path(), "EVA, alpha 4", &["adapter.eva.lora.alpha=4.0", "seed=7"]),
        ]);
        assert_eq!(text.matches("data:image/gif;base64,R0lGODlh").count(), 2);
        assert_eq!(text.matches("data:image").count(), 2);
        let row = "<td>adapter.eva.lora.alpha</td><td class=\"number\">4</td><td class=\"number\">8</td>";
        assert!(text.contains(row), "{text}");
        assert!(!text.contains("<td>optimiser.batch_size</td>") && !text.contains("<td>seed</td>"));
        assert!(
            text.contains("<td class=\"number\">-9.0</td><td class=\"number\">-2.5</td>"),
            "the same scores as in the report"
        );
    }
}
