//! The return that a policy achieves over the return that it is asked for: a table and a figure.

use std::path::Path;

use maud::{Markup, html};

use super::axis;
use super::figure::png;
use super::panel::px;
use super::tabular::Table;
use crate::evaluation::Evaluation;

/// Width and height of the figure, and the corners of its plot.
const SIZE: (f64, f64) = (640.0, 420.0);
const LEFT: f64 = 74.0;
const RIGHT: f64 = 620.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 362.0;

const COLOUR: &str = "#0072b2";

/// A row per target return.
pub fn target_table(found: &[Evaluation]) -> Table {
    let scored = found.iter().any(|evaluation| evaluation.normalized_score.is_some());
    let succeeds = found.iter().any(|evaluation| evaluation.success_rate.is_some());
    let mut table = Table::new("", &["target return", "return: mean", "std", "95%"]);
    table.head.extend(scored.then(|| "normalised score".to_owned()));
    table.head.extend(succeeds.then(|| "success".to_owned()));
    for evaluation in found {
        let [low, high] = evaluation.interval;
        let target = f64::from(evaluation.target_return.unwrap_or(f32::NAN));
        let mut row = vec![
            format!("{target:.1}"),
            format!("{:.1}", evaluation.mean_return),
            format!("{:.1}", evaluation.std_return),
            format!("{low:.1} to {high:.1}"),
        ];
        let or_dash = |text: Option<String>| text.unwrap_or("–".to_owned());
        if scored {
            row.push(or_dash(evaluation.normalized_score.map(|score| format!("{score:.1}"))));
        }
        if succeeds {
            row.push(or_dash(evaluation.success_rate.map(|rate| format!("{:.0}%", 100.0 * rate))));
        }
        table.rows.push(row);
    }
    let best = found.iter().max_by(|a, b| a.mean_return.total_cmp(&b.mean_return));
    let best = best.and_then(|best| Some((best.target_return?, best)));
    table.outro = best.map_or(String::new(), |(target, best)| {
        format!(
            "The greatest mean return, {:.1}, is achieved where {target:.1} is asked for ({} episodes each).",
            best.mean_return, best.episodes
        )
    });
    table
}

/// The figure, as PNG where a file of the name `file` would be one, or else as SVG.
pub fn draw_targets(found: &[Evaluation], title: &str, file: &Path) -> anyhow::Result<Vec<u8>> {
    let svg = svg(found, title);
    let is_png = file.extension().is_some_and(|end| end.eq_ignore_ascii_case("png"));
    if is_png { png(&svg) } else { Ok(svg.into_bytes()) }
}

fn svg(found: &[Evaluation], title: &str) -> String {
    let asked: Vec<f64> = found.iter().filter_map(|one| one.target_return).map(f64::from).collect();
    let (low, high) = ends(asked.iter().copied());
    let (bottom, top) = ends(found.iter().flat_map(|one| one.interval.into_iter().chain([one.mean_return])));
    let margin = (0.06 * (top - bottom)).max(1e-3);
    let plot = Plot { across: [low, high], up: [bottom - margin, top + margin] };
    let place = |target: f64, value: f64| format!("{},{}", px(plot.x(target)), px(plot.y(value)));
    let line: Vec<String> =
        asked.iter().zip(found).map(|(target, one)| place(*target, one.mean_return)).collect();
    let edge =
        |side: usize| asked.iter().zip(found).map(move |(target, one)| place(*target, one.interval[side]));
    let band: Vec<String> = edge(0).chain(edge(1).collect::<Vec<_>>().into_iter().rev()).collect();
    let episodes = found.first().map_or(0, |one| one.episodes);
    html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(px(SIZE.0)) height=(px(SIZE.1)) viewBox={"0 0 " (px(SIZE.0)) " " (px(SIZE.1))} font-family="sans-serif" fill="#222" {
            rect width="100%" height="100%" fill="white" {}
            clipPath id="plot" { rect x=(px(LEFT)) y=(px(TOP)) width=(px(RIGHT - LEFT)) height=(px(BOTTOM - TOP)) {} }
            text x=(px((LEFT + RIGHT) / 2.0)) y="22" text-anchor="middle" font-size="14" { (title) }
            (plot.axes())
            g clip-path="url(#plot)" {
                line x1=(px(plot.x(low))) y1=(px(plot.y(low))) x2=(px(plot.x(high))) y2=(px(plot.y(high))) stroke="#888" stroke-width="1.2" stroke-dasharray="5 4" {}
                polygon points=(band.join(" ")) fill=(COLOUR) fill-opacity="0.15" {}
            }
            polyline points=(line.join(" ")) fill="none" stroke=(COLOUR) stroke-width="1.9" stroke-linejoin="round" {}
            @for (target, one) in asked.iter().zip(found) {
                circle cx=(px(plot.x(*target))) cy=(px(plot.y(one.mean_return))) r="3.4" fill=(COLOUR) stroke="white" stroke-width="0.8" {}
            }
            text x=(px(LEFT)) y=(px(SIZE.1 - 8.0)) font-size="11" fill="#555" {
                "Means of " (episodes) " episodes with their 95% intervals. Dashed: what is asked for."
            }
        }
    }
    .into_string()
}

/// The least and the greatest of some numbers.
fn ends(numbers: impl Iterator<Item = f64>) -> (f64, f64) {
    numbers
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), number| (low.min(number), high.max(number)))
}

/// Where values lie in pixels.
struct Plot {
    across: [f64; 2],
    up: [f64; 2],
}

impl Plot {
    fn x(&self, value: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (value - self.across[0]) / (self.across[1] - self.across[0])
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * (value - self.up[0]) / (self.up[1] - self.up[0])
    }

    fn axes(&self) -> Markup {
        let (across, step) = axis::ticks(self.across[0], self.across[1], 8.0);
        let (up, up_step) = axis::ticks(self.up[0], self.up[1], 6.5);
        html! {
            @for value in up {
                @let y = self.y(value);
                line x1=(px(LEFT)) x2=(px(RIGHT)) y1=(px(y)) y2=(px(y)) stroke="#ddd" stroke-width="1" {}
                text x=(px(LEFT - 6.0)) y=(px(y + 4.0)) text-anchor="end" font-size="12" { (axis::number(value, up_step)) }
            }
            @for value in across {
                @let x = px(self.x(value));
                line x1=(x) x2=(x) y1=(px(BOTTOM)) y2=(px(BOTTOM + 4.0)) stroke="#333" stroke-width="1" {}
                text x=(x) y=(px(BOTTOM + 17.0)) text-anchor="middle" font-size="12" { (axis::number(value, step)) }
            }
            path d={"M" (px(LEFT)) " " (px(TOP)) "V" (px(BOTTOM)) "H" (px(RIGHT))} fill="none" stroke="#333" stroke-width="1" {}
            text x=(px((LEFT + RIGHT) / 2.0)) y=(px(BOTTOM + 34.0)) text-anchor="middle" font-size="12" { "target return" }
            text transform={"translate(14 " (px((TOP + BOTTOM) / 2.0)) ") rotate(-90)"} text-anchor="middle" font-size="12" { "mean return" }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found() -> Vec<Evaluation> {
        let one = |target: f64, mean: f64| {
            serde_json::from_value(json!({
                "target_return": target, "episodes": 4, "mean_return": mean, "std_return": 2.0,
                "interval": [mean - 1.0, mean + 1.0], "mean_length": 10.0,
                "success_rate": null, "normalized_score": 50.0,
            }))
            .unwrap()
        };
        vec![one(0.0, 10.0), one(50.0, 40.0), one(100.0, 30.0)]
    }

    #[test]
    fn the_table_has_a_row_a_target_and_names_the_best() {
        let table = target_table(&found());
        assert_eq!(table.head.last().unwrap(), "normalised score");
        assert_eq!(table.rows[1], ["50.0", "40.0", "2.0", "39.0 to 41.0", "50.0"]);
        assert!(
            table.outro.contains("mean return, 40.0, is achieved where 50.0 is asked for"),
            "{}",
            table.outro
        );
    }

    #[test]
    fn points_lie_where_their_values_are() {
        let svg = svg(&found(), "Hopper-v5");
        // Across from 0 to 100, up from 9 − 1.92 to 41 + 1.92.
        let y = BOTTOM - (BOTTOM - TOP) * (40.0 - 7.08) / 35.84;
        let wanted = format!("cx=\"{}\" cy=\"{}\"", px((LEFT + RIGHT) / 2.0), px(y));
        assert!(svg.contains(&wanted), "{wanted}: {svg}");
        assert!(svg.contains(">Hopper-v5</text>") && svg.contains("Means of 4 episodes"), "{svg}");
    }
}
