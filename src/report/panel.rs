//! One task's learning curves, as a group of an SVG.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::axis::{self, Axis};
use super::comparison::{Group, Measure};
use super::series::{Point, Style, env_steps_at, points};

/// Methods between whose lowest and highest run there is a band, at most.
pub const MOST_BANDS: usize = 8;

/// Points of a line that have markers, at most; of more every second has one, or every third, and so on.
const MOST_MARKERS: usize = 24;

/// Pixels between lines that would coincide, and how far all of them spread at most.
const APART: f64 = 2.6;
const SPREAD: f64 = 15.0;

/// Width of a letter in its height, in the mean.
const LETTER: f64 = 0.55;

/// Room around the curves.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 44.0;

/// What a panel shows beside its curves.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shown {
    /// Bands between the lowest and the highest run.
    pub bands: bool,
    /// A mark where online fine-tuning begins.
    pub online: bool,
    /// Curves that begin outside.
    pub cut: bool,
    /// Lines that are moved apart.
    pub apart: bool,
    /// Environment steps across, of which offline updates take none.
    pub env_steps: bool,
}

impl Shown {
    /// What either shows.
    pub fn or(self, other: Self) -> Self {
        Self {
            bands: self.bands || other.bands,
            online: self.online || other.online,
            cut: self.cut || other.cut,
            apart: self.apart || other.apart,
            env_steps: self.env_steps || other.env_steps,
        }
    }
}

/// One task's curves.
pub struct Panel<'a> {
    /// The task.
    pub title: &'a str,
    /// Its groups.
    pub groups: &'a BTreeMap<String, Group>,
    /// How each is drawn.
    pub styles: &'a BTreeMap<&'a str, Style>,
    /// What is shown.
    pub measure: Measure,
    /// Over what.
    pub axis: Axis,
    /// Width and height in pixels.
    pub size: (f64, f64),
    /// Tells its names from other panels'.
    pub index: usize,
}

impl Panel<'_> {
    /// Letters of the title, which is centred at `middle`: as large as fit, and 14 pixels at most.
    fn title_size(&self, middle: f64) -> f64 {
        let width = 2.0 * middle.min(self.size.0 - middle);
        (width / (LETTER * self.title.chars().count().max(1) as f64)).clamp(6.0, 14.0)
    }

    /// The panel from its upper left corner on, and what it shows; with `hover`, every point has a wide target that
    /// holds its values.
    pub fn draw(&self, hover: bool) -> (Markup, Shown) {
        let curves: Vec<Vec<Point>> = self.groups.values().map(|group| points(group, self.axis)).collect();
        let bands =
            self.styles.len() <= MOST_BANDS && self.groups.values().any(|group| group.curves.len() > 1);
        let plot = Plot::new(self, &curves, bands);
        let places = plot.places(&curves);
        let online: Vec<usize> = self.online();
        let apart = places.iter().flatten().any(|place| place.apart && plot.holds(place));
        let env_steps = self.axis == Axis::EnvSteps;
        let shown = Shown { bands, online: !online.is_empty(), cut: plot.range.cut, apart, env_steps };
        let clip = format!("plot{}", self.index);
        let named = || self.groups.iter().map(|(name, group)| (name, group, &self.styles[name.as_str()]));
        let markup = html! {
            clipPath id=(clip) {
                rect x=(px(plot.left)) y=(px(plot.top - plot.room)) width=(px(plot.right - plot.left + 6.0)) height=(px(plot.bottom - plot.top + 2.0 * plot.room)) {}
            }
            text x=(px((plot.left + plot.right) / 2.0)) y="18" text-anchor="middle" font-size=(px(self.title_size((plot.left + plot.right) / 2.0))) { (self.title) }
            (self.axes(&plot, &curves))
            @for at in online {
                @let x = plot.x(at as f64);
                line x1=(px(x)) x2=(px(x)) y1=(px(plot.top)) y2=(px(plot.bottom)) stroke="#555" stroke-width="1" stroke-dasharray="1.5 3" {}
                text x=(px(x + 4.0)) y=(px(plot.top + 11.0)) font-size="11" fill="#555" { "online" }
            }
            g clip-path={"url(#" (clip) ")"} {
                @if bands {
                    @for (curve, (_, _, style)) in curves.iter().zip(named()) {
                        polygon points=(plot.band(curve)) fill=(style.colour) fill-opacity="0.13" {}
                    }
                }
                @for (line, (_, _, style)) in places.iter().zip(named()) {
                    polyline points=(joined(line)) fill="none" stroke=(style.colour) stroke-width="1.9" stroke-linejoin="round" stroke-dasharray=[style.dash] {}
                }
            }
            @for ((line, curve), (name, group, style)) in places.iter().zip(&curves).zip(named()) {
                @for (index, (place, point)) in line.iter().zip(curve).enumerate() {
                    @if plot.holds(place) && index.is_multiple_of(curve.len().div_ceil(MOST_MARKERS)) {
                        (marker(style, place.x, place.y))
                    }
                    @if hover {
                        circle.hit cx=(px(place.x)) cy=(px(place.y.clamp(plot.top, plot.bottom))) r="10" fill-opacity="0" tabindex="0" {
                            title { (self.values(name, group, point)) }
                        }
                    }
                }
            }
            (self.start(&plot, &curves))
        };
        (markup, shown)
    }

    /// Where its groups go online, on the axis of updates.
    fn online(&self) -> Vec<usize> {
        if self.axis != Axis::Updates {
            return Vec::new();
        }
        let mut found: Vec<usize> = self.groups.values().filter_map(|group| group.online_from).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Grid, ticks and the axes' names; beneath updates the environment steps that were taken by then.
    fn axes(&self, plot: &Plot, curves: &[Vec<Point>]) -> Markup {
        let (left, right, top, bottom) = (plot.left, plot.right, plot.top, plot.bottom);
        let (across, step) = axis::ticks(0.0, plot.most, (plot.right - plot.left) / 52.0);
        let (up, up_step) = axis::ticks(plot.range.low, plot.range.high, 6.5);
        let explores = self.axis == Axis::Updates && plot.explores;
        let middle = (left + right) / 2.0;
        html! {
            @for value in up {
                @let y = px(plot.y(value));
                line x1=(px(left)) x2=(px(right)) y1=(y) y2=(y) stroke="#ddd" stroke-width="1" {}
                text x=(px(left - 6.0)) y=(px(plot.y(value) + 4.0)) text-anchor="end" font-size="12" { (axis::number(value, up_step)) }
            }
            @for value in across {
                @let x = px(plot.x(value));
                line x1=(x) x2=(x) y1=(px(bottom)) y2=(px(bottom + 4.0)) stroke="#333" stroke-width="1" {}
                @let text = if step < 1.0 { axis::number(value, step) } else { axis::count(value) };
                text x=(x) y=(px(bottom + 17.0)) text-anchor="middle" font-size="12" { (text) }
                @if explores {
                    text x=(x) y=(px(bottom + 47.0)) text-anchor="middle" font-size="12" fill="#555" { (axis::count(rounded(env_steps_at(curves, value)))) }
                }
            }
            path d={"M" (px(left)) " " (px(top)) "V" (px(bottom)) "H" (px(right))} fill="none" stroke="#333" stroke-width="1" {}
            text x=(px(middle)) y=(px(bottom + 32.0)) text-anchor="middle" font-size="12" { (self.axis.name()) }
            @if explores {
                text x=(px(middle)) y=(px(bottom + 62.0)) text-anchor="middle" font-size="12" fill="#555" { "environment steps by then, mean" }
            }
            text transform={"translate(14 " (px((top + bottom) / 2.0)) ") rotate(-90)"} text-anchor="middle" font-size="12" { (self.measure.name()) }
        }
    }

    /// Where curves begin, written at the edge beyond which they do.
    fn start(&self, plot: &Plot, curves: &[Vec<Point>]) -> Markup {
        let outside = |point: &&Point| point.mean < plot.range.low || point.mean > plot.range.high;
        let firsts: Vec<f64> =
            curves.iter().filter_map(|curve| curve.first().filter(outside)).map(|point| point.mean).collect();
        let low = firsts.iter().copied().fold(f64::INFINITY, f64::min);
        let high = firsts.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let below = low < plot.range.low;
        let (edge, towards) = if below { (plot.bottom, -1.0) } else { (plot.top, 1.0) };
        let (low_text, high_text) = (axis::number(low, 0.1), axis::number(high, 0.1));
        let text = if low_text == high_text { low_text } else { format!("{low_text} to {high_text}") };
        html! {
            @if !firsts.is_empty() {
                path d={"M" (px(plot.left + 3.0)) " " (px(edge + towards * 9.0)) "h8l-4 " (px(-towards * 7.0)) "z"} fill="#333" {}
                text x=(px(plot.left + 15.0)) y=(px(edge + towards * 5.0 + 3.0)) font-size="11" stroke="white" stroke-width="3" paint-order="stroke" { "starts at " (text) }
            }
        }
    }

    /// A point in words.
    fn values(&self, name: &str, group: &Group, point: &Point) -> String {
        let mut text = format!("{name}\n{} updates", point.updates);
        if point.env_steps > 0.0 {
            text += &format!(", {:.0} environment steps", point.env_steps);
        }
        text += &format!("\n{} {}", self.measure.name(), axis::number(point.mean, 0.1));
        let [low, high] = point.extent.map(|score| axis::number(score, 0.1));
        match group.curves.len() {
            1 => text + ", 1 run",
            runs => text + &format!(" ({low} to {high}), {runs} runs"),
        }
    }
}

/// A place of a line in pixels.
#[derive(Clone, Copy)]
struct Place {
    x: f64,
    y: f64,
    /// Whether it was moved apart from another.
    apart: bool,
}

/// Where values lie in pixels.
struct Plot {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    /// Pixels above and below that curves may take: a score at an end of the range may have been moved apart.
    room: f64,
    /// The greatest value across.
    most: f64,
    range: axis::Range,
    /// Whether some group takes environment steps.
    explores: bool,
}

impl Plot {
    fn new(panel: &Panel, curves: &[Vec<Point>], bands: bool) -> Self {
        let extent = |point: &Point| if bands { point.extent } else { [point.mean; 2] };
        let first: Vec<[f64; 2]> = curves.iter().filter_map(|curve| curve.first()).map(extent).collect();
        let later: Vec<[f64; 2]> = curves.iter().flat_map(|curve| curve.iter().skip(1)).map(extent).collect();
        let range = match panel.measure {
            Measure::Success => axis::Range { low: 0.0, high: 100.0, cut: false },
            Measure::Return | Measure::Normalized => axis::range(&first, &later),
        };
        let all = || curves.iter().flatten();
        let most = all().map(|point| point.x).fold(0.0, f64::max);
        let explores = all().any(|point| point.env_steps > 0.0);
        let under = if explores && panel.axis == Axis::Updates { BOTTOM + 28.0 } else { BOTTOM };
        Self {
            left: LEFT,
            right: panel.size.0 - RIGHT,
            top: TOP,
            bottom: panel.size.1 - under,
            room: if range.cut { 0.0 } else { SPREAD / 2.0 + 2.0 },
            most: if most > 0.0 { most } else { 1.0 },
            range,
            explores,
        }
    }

    fn x(&self, value: f64) -> f64 {
        self.left + (self.right - self.left) * value / self.most
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - (self.bottom - self.top) * (value - self.range.low) / (self.range.high - self.range.low)
    }

    /// Whether a place is seen.
    fn holds(&self, place: &Place) -> bool {
        place.y >= self.top - self.room && place.y <= self.bottom + self.room
    }

    /// Where the points of all curves lie; those that would coincide are moved apart.
    fn places(&self, curves: &[Vec<Point>]) -> Vec<Vec<Place>> {
        let place = |point: &Point| Place { x: self.x(point.x), y: self.y(point.mean), apart: false };
        let exact: Vec<Vec<Place>> = curves.iter().map(|curve| curve.iter().map(place).collect()).collect();
        let near = |a: &Place, b: &Place| (a.x - b.x).abs() < 0.5 && (a.y - b.y).abs() < 1.5;
        let mut places = exact.clone();
        for (curve, line) in places.iter_mut().enumerate() {
            for place in line {
                let with: Vec<usize> = (0..exact.len())
                    .filter(|other| exact[*other].iter().any(|found| near(found, place)))
                    .collect();
                if with.len() > 1 {
                    let most = (with.len() - 1) as f64;
                    let order = with.iter().position(|other| *other == curve).unwrap_or(0) as f64;
                    place.y += (order - most / 2.0) * APART.min(SPREAD / most);
                    place.apart = true;
                }
            }
        }
        places
    }

    /// The corners of what lies between the lowest and the highest run.
    fn band(&self, curve: &[Point]) -> String {
        let edge = |side: usize| {
            move |point: &Point| format!("{},{}", px(self.x(point.x)), px(self.y(point.extent[side])))
        };
        let corners: Vec<String> = curve.iter().map(edge(0)).chain(curve.iter().rev().map(edge(1))).collect();
        corners.join(" ")
    }
}

fn joined(line: &[Place]) -> String {
    let points: Vec<String> = line.iter().map(|place| format!("{},{}", px(place.x), px(place.y))).collect();
    points.join(" ")
}

/// A group's marker at a place.
pub fn marker(style: &Style, x: f64, y: f64) -> Markup {
    let shapes = [
        "M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0 -6.4 0z", // a circle
        "M-2.8 -2.8h5.6v5.6h-5.6z",
        "M0 -4.2l4.2 4.2l-4.2 4.2l-4.2 -4.2z",
        "M0 -3.8l3.8 6.6h-7.6z",
        "M0 3.8l3.8 -6.6h-7.6z",
        "M-1.2 -3.8h2.4v2.6h2.6v2.4h-2.6v2.6h-2.4v-2.6h-2.6v-2.4h2.6z", // a plus
    ];
    html! {
        path d=(shapes[style.marker % shapes.len()]) transform={"translate(" (px(x)) " " (px(y)) ")"} fill=(style.colour) stroke="white" stroke-width="0.8" {}
    }
}

/// To two digits, since environment steps between evaluations are known no better.
fn rounded(value: f64) -> f64 {
    if value < 100.0 {
        return value.round();
    }
    let unit = 10f64.powf(value.log10().floor() - 1.0);
    (value / unit).round() * unit
}

/// A length in pixels, to a hundredth.
pub fn px(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::series::styles;
    use super::super::table::tests::{Runs, comparison};
    use super::*;
    use crate::report::Comparison;

    fn draw(comparison: &Comparison, measure: Measure) -> (String, Shown) {
        let styles = styles(comparison);
        let (title, groups) = comparison.tasks.first_key_value().unwrap();
        let (axis, size) = (Axis::Updates, (760.0, 420.0));
        let panel = Panel { title, groups, styles: &styles, measure, axis, size, index: 0 };
        let (markup, shown) = panel.draw(true);
        (markup.into_string(), shown)
    }

    #[test]
    fn success_goes_from_0_to_100() {
        let runs: [Runs; 2] = [("t", "EVA", &[(100.0, 100.0)]), ("t", "LoRA", &[(99.0, 100.0)])];
        let (svg, _) = draw(&comparison(&runs), Measure::Success);
        for tick in ["0", "20", "40", "60", "80", "100"] {
            assert!(svg.contains(&format!("font-size=\"12\">{tick}</text>")), "{tick}: {svg}");
        }
    }

    #[test]
    fn lines_that_coincide_are_moved_apart_and_no_others() {
        let runs: [Runs; 2] = [("t", "EVA", &[(100.0, 100.0)]), ("t", "LoRA", &[(100.0, 50.0)])];
        let (_, shown) = draw(&comparison(&runs), Measure::Success);
        assert!(shown.apart);
        let runs: [Runs; 2] = [("t", "EVA", &[(90.0, 100.0)]), ("t", "LoRA", &[(100.0, 50.0)])];
        let (_, shown) = draw(&comparison(&runs), Measure::Success);
        assert!(!shown.apart);
    }

    #[test]
    fn a_start_outside_of_the_axis_is_written_at_its_edge() {
        let mut found = comparison(&[("t", "EVA", &[(-1119.0, -260.0), (-1119.0, -240.0)])]);
        found.tasks.get_mut("t").unwrap().get_mut("EVA").unwrap().curves[0].insert(5, -250.0);
        found.tasks.get_mut("t").unwrap().get_mut("EVA").unwrap().curves[1].insert(5, -220.0);
        let (svg, shown) = draw(&found, Measure::Return);
        assert!(shown.cut && svg.contains("starts at −1119.0"), "{svg}");
        assert!(svg.contains("EVA\n10 updates\nmean return −250.0 (−260.0 to −240.0), 2 runs"), "{svg}");
    }

    #[test]
    fn where_online_fine_tuning_begins_is_marked() {
        let mut found = comparison(&[("t", "EVA", &[(1.0, 2.0)])]);
        assert!(!draw(&found, Measure::Return).1.online);
        let group = found.tasks.get_mut("t").unwrap().get_mut("EVA").unwrap();
        group.online_from = Some(5);
        group.env_steps = vec![BTreeMap::from([(0, 0), (10, 4000)])];
        let (svg, shown) = draw(&found, Measure::Return);
        assert!(shown.online && svg.contains(">online</text>"), "{svg}");
        assert!(svg.contains(">2000</text>") && svg.contains(">4000</text>"), "{svg}");
    }

    #[test]
    fn a_long_title_has_smaller_letters() {
        let size_of = |title: &'static str| {
            let (svg, _) = draw(&comparison(&[(title, "EVA", &[(1.0, 2.0)])]), Measure::Return);
            let before = svg.split(&format!("\">{title}</text>")).next().unwrap();
            before.rsplit("font-size=\"").next().unwrap().parse::<f64>().unwrap()
        };
        assert_eq!(size_of("Pendulum-v1"), 14.0);
        let long = "envpool:Breakout-v5 full_action_space=true max_episode_steps=1000 repeat_action_probability=0.25 shift_frames=4";
        let width = size_of(long) * LETTER * long.len() as f64;
        assert!((700.0..=760.0).contains(&width), "{width}");
    }

    #[test]
    fn what_files_say_is_escaped() {
        let (svg, _) = draw(&comparison(&[("<b>\"&", "</title><script>", &[(1.0, 2.0)])]), Measure::Return);
        assert!(!svg.contains("<script") && !svg.contains("<b>") && svg.contains("&lt;b&gt;"), "{svg}");
    }
}
