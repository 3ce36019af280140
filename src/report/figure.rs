//! Learning curves: a panel a task, a line a method.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use epaint_default_fonts::UBUNTU_LIGHT;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;

use super::statistics::mean;
use super::table::split_rank;
use super::{Comparison, Group, Measure};

/// Colours that stay apart for colour-blind readers (Okabe and Ito), then a grey and a brown.
const COLOURS: [RGBColor; 10] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(240, 228, 66),
    RGBColor(150, 150, 150),
    RGBColor(120, 60, 20),
];

/// Methods between whose lowest and highest run there is a band, at most.
const MOST_BANDS: usize = 8;

/// Width and height of a panel where there are several.
const PANEL: (u32, u32) = (430, 320);

/// Writes `curves.svg` and `curves.png` into a folder.
pub fn draw(comparison: &Comparison, measure: Measure, folder: &Path) -> anyhow::Result<()> {
    register_font("sans-serif", FontStyle::Normal, UBUNTU_LIGHT)
        .map_err(|_| anyhow::anyhow!("the figures' font cannot be read"))?;
    let count = comparison.tasks.len();
    let panels = if count == 1 { 1 } else { count + 1 }; // the last one tells the methods' colours
    let columns = panels.min(3);
    let rows = panels.div_ceil(columns);
    let (width, height) = match count {
        1 => (760, 420),
        _ => (PANEL.0 * columns as u32, PANEL.1 * rows as u32),
    };
    let path = folder.join("curves.svg");
    let svg = SVGBackend::new(&path, (width, height)).into_drawing_area();
    draw_panels(&svg, (rows, columns), comparison, measure)?;
    drop(svg); // writes the file

    let mut pixels = vec![0; (3 * width * height) as usize]; // [H, W, RGB]
    let bitmap = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
    draw_panels(&bitmap, (rows, columns), comparison, measure)?;
    drop(bitmap);
    let mut encoder = png::Encoder::new(File::create(folder.join("curves.png"))?, width, height);
    encoder.set_color(png::ColorType::RGB);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(())
}

/// A panel a task.
fn draw_panels<B: DrawingBackend<ErrorType: 'static>>(
    area: &DrawingArea<B, Shift>,
    (rows, columns): (usize, usize),
    comparison: &Comparison,
    measure: Measure,
) -> anyhow::Result<()> {
    area.fill(&WHITE)?;
    let colours = colours(comparison);
    let panels = area.split_evenly((rows, columns));
    if comparison.tasks.len() > 1 {
        draw_legend(&panels[comparison.tasks.len()], &colours)?;
    }
    for (panel, (task, groups)) in panels.iter().zip(&comparison.tasks) {
        let title = (comparison.tasks.len() > 1).then_some(task.as_str());
        draw_panel(panel, title, groups, &colours, measure)?;
    }
    area.present()?;
    Ok(())
}

/// A colour a method; its ranks are shades of it, the greatest the darkest.
fn colours(comparison: &Comparison) -> BTreeMap<&str, RGBAColor> {
    let mut families: BTreeMap<String, Vec<(u64, &str)>> = BTreeMap::new();
    for method in comparison.methods() {
        let (rank, rest) = split_rank(method);
        let rank = rank.and_then(|rank| rank.parse().ok()).unwrap_or(0);
        families.entry(rest).or_default().push((rank, method));
    }
    let mut colours = BTreeMap::new();
    for (ranks, colour) in families.values_mut().zip(COLOURS.iter().cycle()) {
        ranks.sort_unstable();
        let count = ranks.len() as f64;
        for (index, (_, method)) in ranks.iter().enumerate() {
            colours.insert(*method, colour.mix(1.0 - 0.8 * (count - 1.0 - index as f64) / count));
        }
    }
    colours
}

/// Every method beside its colour, in a panel of its own, where it hides no curve.
fn draw_legend<B: DrawingBackend<ErrorType: 'static>>(
    area: &DrawingArea<B, Shift>,
    colours: &BTreeMap<&str, RGBAColor>,
) -> anyhow::Result<()> {
    let line = (260 / colours.len() as i32).clamp(8, 24); // so that many fit too
    for (index, (method, colour)) in colours.iter().enumerate() {
        let y = 30 + line * index as i32;
        area.draw(&PathElement::new([(70, y), (95, y)], colour.stroke_width(3)))?;
        area.draw(&Text::new(
            (*method).to_owned(),
            (105, y - line.min(14) / 2),
            ("sans-serif", line.min(14)),
        ))?;
    }
    Ok(())
}

/// A line a method: the mean over its runs; between the lowest and the highest where there are few methods.
fn draw_panel<B: DrawingBackend<ErrorType: 'static>>(
    area: &DrawingArea<B, Shift>,
    title: Option<&str>,
    groups: &BTreeMap<String, Group>,
    colours: &BTreeMap<&str, RGBAColor>,
    measure: Measure,
) -> anyhow::Result<()> {
    let curves: BTreeMap<&str, BTreeMap<usize, Vec<f64>>> =
        groups.iter().map(|(method, group)| (method.as_str(), group.by_updates())).collect();
    let points = || curves.values().flat_map(|curve| curve.values().flatten().copied());
    let (low, high) = (points().fold(f64::INFINITY, f64::min), points().fold(f64::NEG_INFINITY, f64::max));
    let margin = 0.05 * (high - low).max(0.2 * high.abs()).max(1.0);
    let updates = curves.values().filter_map(|curve| curve.keys().next_back()).max().copied().unwrap_or(1);

    let mut builder = ChartBuilder::on(area);
    if let Some(title) = title {
        builder.caption(title, ("sans-serif", 15));
    }
    let mut chart = builder
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0..updates.max(1), low - margin..high + margin)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .x_labels(6)
        .label_style(("sans-serif", 13))
        .axis_desc_style(("sans-serif", 14))
        .x_desc("updates")
        .y_desc(measure.name())
        .draw()?;
    for (method, curve) in &curves {
        let colour = colours[method];
        let edge = |pick: fn(f64, f64) -> f64| -> Vec<(usize, f64)> {
            let values = curve.iter().map(|(at, scores)| (*at, scores.iter().copied().reduce(pick)));
            values.filter_map(|(at, value)| Some((at, value?))).collect()
        };
        if colours.len() <= MOST_BANDS {
            let band = [edge(f64::min), edge(f64::max).into_iter().rev().collect()].concat();
            chart.draw_series([Polygon::new(band, colour.mix(0.15))])?;
        }
        let line = curve.iter().map(|(at, scores)| (*at, mean(scores)));
        chart
            .draw_series(LineSeries::new(line, colour.stroke_width(2)))?
            .label(*method)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
    }
    if title.is_some() {
        return Ok(());
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.85))
        .label_font(("sans-serif", 13))
        .draw()?;
    Ok(())
}
