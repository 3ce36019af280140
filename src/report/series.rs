//! What a figure shows of each group: its points, and how its line is told from the others'.

use std::collections::BTreeMap;

use super::axis::Axis;
use super::comparison::{Comparison, Group};
use super::statistics::mean;
use super::table::split_rank;

/// Colours that stay apart for colour-blind readers (Okabe and Ito), without the yellow that white swallows.
const COLOURS: [[u8; 3]; 10] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [230, 159, 0],
    [86, 180, 233],
    [0, 0, 0],
    [130, 130, 130],
    [120, 60, 20],
    [128, 128, 0],
];

/// Dashes, as SVG's `stroke-dasharray`; the first line is whole.
const DASHES: [Option<&str>; 4] = [None, Some("7 3"), Some("2 2.5"), Some("8 3 2 3")];

/// How a group is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Style {
    /// `#rrggbb`.
    pub colour: String,
    /// `stroke-dasharray`.
    pub dash: Option<&'static str>,
    /// Which of the markers.
    pub marker: usize,
}

/// A group's runs at one number of updates, of which all were evaluated there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Place on the horizontal axis.
    pub x: f64,
    /// Updates.
    pub updates: usize,
    /// Mean environment steps.
    pub env_steps: f64,
    /// Mean score.
    pub mean: f64,
    /// Lowest and highest score.
    pub extent: [f64; 2],
}

/// By group, how it is drawn, on every task the same: a colour and dashes a method; its ranks are shades of the
/// colour, the greatest the darkest, with markers of their own.
pub fn styles(comparison: &Comparison) -> BTreeMap<&str, Style> {
    let mut families: BTreeMap<String, Vec<(u64, &str)>> = BTreeMap::new();
    for method in comparison.methods() {
        let (rank, rest) = split_rank(method);
        let rank = rank.and_then(|rank| rank.parse().ok()).unwrap_or(0);
        families.entry(rest).or_default().push((rank, method));
    }
    let mut styles = BTreeMap::new();
    for (family, ranks) in families.values_mut().enumerate() {
        ranks.sort_unstable();
        let count = ranks.len() as f64;
        for (index, (_, method)) in ranks.iter().enumerate() {
            let strength = 1.0 - 0.7 * (count - 1.0 - index as f64) / count;
            let [red, green, blue] = COLOURS[family % COLOURS.len()]
                .map(|part| (255.0 - strength * (255.0 - f64::from(part))).round() as u8);
            let style = Style {
                colour: format!("#{red:02x}{green:02x}{blue:02x}"),
                dash: DASHES[(family + family / COLOURS.len()) % DASHES.len()],
                marker: family + index,
            };
            styles.insert(*method, style);
        }
    }
    styles
}

/// A group's points along an axis; of several at one place the last.
pub fn points(group: &Group, axis: Axis) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    for (updates, scores) in group.by_updates() {
        let steps: Vec<f64> =
            group.env_steps.iter().filter_map(|run| run.get(&updates)).map(|steps| *steps as f64).collect();
        let env_steps = if steps.is_empty() { 0.0 } else { mean(&steps) };
        let x = match axis {
            Axis::Updates => updates as f64,
            Axis::EnvSteps => env_steps,
        };
        let low = scores.iter().copied().fold(f64::INFINITY, f64::min);
        let high = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if points.last().is_some_and(|last| last.x == x) {
            points.pop();
        }
        points.push(Point { x, updates, env_steps, mean: mean(&scores), extent: [low, high] });
    }
    points
}

/// Mean environment steps at an update, over the groups that explore: along straight lines between evaluations.
pub fn env_steps_at(curves: &[Vec<Point>], updates: f64) -> f64 {
    let explores = |points: &&Vec<Point>| points.iter().any(|point| point.env_steps > 0.0);
    let at = |points: &Vec<Point>| {
        let after = points.iter().position(|point| point.updates as f64 >= updates);
        match after {
            None => points.last().map_or(0.0, |point| point.env_steps),
            Some(0) => points[0].env_steps,
            Some(index) => {
                let (left, right) = (points[index - 1], points[index]);
                let fraction = (updates - left.updates as f64) / (right.updates - left.updates) as f64;
                left.env_steps + fraction * (right.env_steps - left.env_steps)
            }
        }
    };
    let found: Vec<f64> = curves.iter().filter(explores).map(at).collect();
    if found.is_empty() { 0.0 } else { mean(&found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> Group {
        Group {
            curves: vec![
                BTreeMap::from([(0, 1.0), (10, 2.0), (20, 3.0)]),
                BTreeMap::from([(0, 1.0), (10, 4.0), (20, 9.0)]),
            ],
            env_steps: vec![
                BTreeMap::from([(0, 0), (10, 0), (20, 100)]),
                BTreeMap::from([(0, 0), (10, 0), (20, 300)]),
            ],
            ..Group::default()
        }
    }

    #[test]
    fn a_point_is_the_mean_of_all_runs_between_the_lowest_and_the_highest() {
        let found = points(&group(), Axis::Updates);
        let wanted = Point { x: 20.0, updates: 20, env_steps: 200.0, mean: 6.0, extent: [3.0, 9.0] };
        assert_eq!((found.len(), found[2]), (3, wanted));
    }

    #[test]
    fn over_environment_steps_what_is_learned_offline_stands_at_none() {
        let found: Vec<(f64, f64)> =
            points(&group(), Axis::EnvSteps).iter().map(|point| (point.x, point.mean)).collect();
        assert_eq!(found, [(0.0, 3.0), (200.0, 6.0)]);
    }

    #[test]
    fn environment_steps_between_evaluations_lie_on_a_line() {
        let curves = [points(&group(), Axis::Updates)];
        let found = [0.0, 10.0, 15.0, 20.0, 99.0].map(|updates| env_steps_at(&curves, updates));
        assert_eq!(found, [0.0, 0.0, 100.0, 200.0, 200.0]);
    }

    #[test]
    fn no_two_of_forty_groups_look_alike() {
        let mut comparison = Comparison::default();
        for index in 0..40 {
            comparison.tasks.entry("t".to_owned()).or_default().insert(format!("{index:02}"), group());
        }
        let styles = styles(&comparison);
        let looks: std::collections::BTreeSet<String> =
            styles.values().map(|style| format!("{} {:?}", style.colour, style.dash)).collect();
        assert_eq!(looks.len(), 40);
    }
}
