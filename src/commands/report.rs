//! `report`: runs side by side, grouped by method: a table and a figure of their learning curves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use plotters::prelude::*;
use rand::Rng;

use super::print;
use crate::cli::ReportArgs;
use crate::config::{self, RunConfig};
use crate::evaluation::Evaluated;
use crate::failure::{InputError, OrInput};
use crate::output::{refuse_existing, write_folder};
use crate::rng::{self, Purpose};
use crate::run_dir::RunDir;

/// Resamples of a bootstrap interval.
const RESAMPLES: usize = 2000;

/// Colours that stay apart for colour-blind readers (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// The runs of one method, of different seeds.
struct Group {
    runs: usize,
    /// Mean return of every run at each evaluation, by updates.
    curve: BTreeMap<usize, Vec<f64>>,
}

/// Runs `report`.
pub fn run(args: ReportArgs) -> anyhow::Result<()> {
    if let Some(out) = &args.out {
        refuse_existing(out)?;
    }
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for run in &args.runs {
        let (label, evaluations) = read(run)?;
        let group = groups.entry(label).or_insert(Group { runs: 0, curve: BTreeMap::new() });
        group.runs += 1;
        for evaluated in evaluations {
            group.curve.entry(evaluated.updates).or_default().push(evaluated.targets[0].mean_return);
        }
    }
    let table = table(&groups);
    print(&table)?;
    if let Some(out) = &args.out {
        write_folder(out, |folder| {
            let figure = "![Mean return of the evaluations over updates](curves.svg)";
            let runs: Vec<String> = args.runs.iter().map(|run| format!("- `{}`", run.display())).collect();
            let text = format!("# Runs compared\n\n{table}\n\n{figure}\n\nRuns:\n\n{}\n", runs.join("\n"));
            std::fs::write(folder.join("report.md"), text)?;
            draw(&groups, &folder.join("curves.svg")).context("cannot draw the curves")
        })?;
    }
    Ok(())
}

/// A run's environment and method, and its evaluations.
fn read(run: &Path) -> anyhow::Result<(String, Vec<Evaluated>)> {
    let config = config::load(&RunDir::open(run)?.config(), &[]).or_input()?;
    let path: PathBuf = run.join("evaluation.json");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| InputError(format!("cannot read {path:?}: {error}")))?;
    let evaluations: Vec<Evaluated> = serde_json::from_str(&text)
        .map_err(|error| InputError(format!("{path:?} is no list of evaluations: {error}")))?;
    if evaluations.iter().any(|evaluated| evaluated.targets.is_empty()) || evaluations.is_empty() {
        return Err(InputError(format!("{path:?} holds no evaluations")).into());
    }
    Ok((label(&config), evaluations))
}

fn label(config: &RunConfig) -> String {
    format!("{}: {}", config.env.id, config.adapter.label())
}

/// Markdown: before, and after with its interquartile mean and interval over runs.
fn table(groups: &BTreeMap<String, Group>) -> String {
    let mut table =
        "| method | runs | before | after: mean | interquartile mean | bootstrap 95% | best |\n".to_owned();
    table += "|---|---|---|---|---|---|---|";
    for (label, group) in groups {
        let (Some(first), Some(last)) = (group.curve.values().next(), group.curve.values().next_back())
        else {
            continue;
        };
        let best = group.curve.values().map(|returns| mean(returns)).fold(f64::NEG_INFINITY, f64::max);
        let [low, high] = bootstrap(last);
        table += &format!(
            "\n| {label} | {} | {:.1} | {:.1} | {:.1} | {low:.1} to {high:.1} | {best:.1} |",
            group.runs,
            mean(first),
            mean(last),
            interquartile_mean(last)
        );
    }
    table
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Mean of the middle half; a value at its edge counts by the part that lies inside.
fn interquartile_mean(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let (low, high) = (count / 4.0, 3.0 * count / 4.0);
    let mut sum = 0.0;
    for (index, value) in sorted.iter().enumerate() {
        let inside = (high.min(index as f64 + 1.0) - low.max(index as f64)).max(0.0);
        sum += inside * value;
    }
    sum / (high - low)
}

/// 95% percentile interval of the mean over resampled runs; of one run, that run alone.
fn bootstrap(values: &[f64]) -> [f64; 2] {
    let mut draw = rng::generator(0, Purpose::Bootstrap, 0);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            (0..values.len()).map(|_| values[draw.gen_range(0..values.len())]).sum::<f64>()
                / values.len() as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    [means[RESAMPLES * 25 / 1000], means[RESAMPLES * 975 / 1000 - 1]]
}

/// A line a method: the mean over its runs, between the lowest and the highest.
fn draw(groups: &BTreeMap<String, Group>, path: &Path) -> anyhow::Result<()> {
    let points = || groups.values().flat_map(|group| group.curve.values().flatten().copied());
    let (low, high) = (points().fold(f64::INFINITY, f64::min), points().fold(f64::NEG_INFINITY, f64::max));
    let margin = 0.05 * (high - low).max(1.0);
    let updates =
        groups.values().filter_map(|group| group.curve.keys().next_back()).max().copied().unwrap_or(1);

    let area = SVGBackend::new(path, (760, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0..updates.max(1), low - margin..high + margin)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 15))
        .x_desc("updates")
        .y_desc("mean return of an evaluation")
        .draw()?;
    for ((label, group), colour) in groups.iter().zip(COLOURS.iter().cycle()) {
        let edge = |pick: fn(f64, f64) -> f64| {
            let values =
                group.curve.iter().map(move |(at, returns)| (*at, returns.iter().copied().reduce(pick)));
            values.filter_map(|(at, value)| Some((at, value?)))
        };
        let band: Vec<(usize, f64)> =
            edge(f64::min).chain(edge(f64::max).collect::<Vec<_>>().into_iter().rev()).collect();
        chart.draw_series([Polygon::new(band, colour.mix(0.15))])?;
        let line = group.curve.iter().map(|(at, returns)| (*at, mean(returns)));
        chart
            .draw_series(LineSeries::new(line, colour.stroke_width(2)))?
            .label(label)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.85))
        .label_font(("sans-serif", 15))
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interquartile_mean_drops_the_outer_quarters() {
        assert_eq!(interquartile_mean(&[-1000.0, 2.0, 4.0, 1000.0]), 3.0);
        assert_eq!(interquartile_mean(&[7.0]), 7.0);
        assert!(
            (interquartile_mean(&[0.0, 6.0, 100.0]) - (0.25 * 0.0 + 6.0 + 0.25 * 100.0) / 1.5).abs() < 1e-12
        );
    }

    #[test]
    fn a_bootstrap_interval_holds_the_mean_and_shrinks_with_the_spread() {
        let [low, high] = bootstrap(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!(low < 3.0 && 3.0 < high && low >= 1.0 && high <= 5.0);
        assert_eq!(bootstrap(&[2.0]), [2.0, 2.0]);
    }
}
