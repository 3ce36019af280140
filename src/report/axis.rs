//! Axes: where ticks stand and what they say, and what range shows the scores that matter.

use clap::ValueEnum;

/// What learning curves are drawn over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Axis {
    /// Updates, offline and online, with the environment steps beneath
    Updates,
    /// Environment steps of exploration
    EnvSteps,
}

impl Axis {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Updates => "updates",
            Self::EnvSteps => "environment steps",
        }
    }
}

/// Share of the height that all scores but the first must take, or the first are left out of the range.
const LEAST_SHARE: f64 = 0.4;

/// Multiples of 1, 2 or 5 times a power of ten within `[low, high]`, about `count` of them, and their step.
pub fn ticks(low: f64, high: f64, count: f64) -> (Vec<f64>, f64) {
    let rough = (high - low) / count;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
    ((first..=last).map(|index| index as f64 * step).collect(), step)
}

/// A number with as many digits as ticks so far apart need, and a true minus.
pub fn number(value: f64, step: f64) -> String {
    let digits = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.digits$}").replace('-', "−");
    if text.trim_start_matches('−').chars().all(|c| c == '0' || c == '.') { "0".to_owned() } else { text }
}

/// A count in few letters: 950, 12k, 1.5M.
pub fn count(value: f64) -> String {
    let (scaled, unit) = match value {
        x if x >= 1e6 => (x / 1e6, "M"),
        x if x >= 1e4 => (x / 1e3, "k"),
        x => (x, ""),
    };
    let digits = usize::from(!unit.is_empty() && scaled < 100.0);
    let text = format!("{scaled:.digits$}");
    format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
}

/// The range of a vertical axis, and whether curves begin outside of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// Whether first scores lie outside, so that the others are not a sliver.
    pub cut: bool,
}

/// What shows scores, given as each curve's extent at its first evaluation and over all later ones.
pub fn range(first: &[[f64; 2]], later: &[[f64; 2]]) -> Range {
    let extent = |parts: &[[f64; 2]]| {
        let fold = |(low, high): (f64, f64), part: &[f64; 2]| (low.min(part[0]), high.max(part[1]));
        parts.iter().fold((f64::INFINITY, f64::NEG_INFINITY), fold)
    };
    let (low, high) = extent(&[first, later].concat());
    let (later_low, later_high) = extent(later);
    let cut = !later.is_empty() && later_high - later_low < LEAST_SHARE * (high - low);
    let (low, high) = if cut { (later_low, later_high) } else { (low, high) };
    let margin = (0.08 * (high - low)).max(0.02 * low.abs().max(high.abs())).max(1e-3);
    Range { low: low - margin, high: high + margin, cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(ticks(0.0, 600.0, 6.0), (vec![0.0, 100.0, 200.0, 300.0, 400.0, 500.0, 600.0], 100.0));
        assert_eq!(ticks(-283.0, -177.0, 5.0), (vec![-250.0, -200.0], 50.0));
        assert_eq!(ticks(0.0, 100.0, 5.0).0, [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
    }

    #[test]
    fn ticks_say_no_more_than_they_must() {
        assert_eq!(number(-200.0, 50.0), "−200");
        assert_eq!(number(0.25, 0.05), "0.25");
        assert_eq!(number(-0.0, 0.5), "0");
        let counts = [0.0, 950.0, 4000.0, 12_000.0, 12_500.0, 1_500_000.0].map(count);
        assert_eq!(counts, ["0", "950", "4000", "12k", "12.5k", "1.5M"]);
    }

    #[test]
    fn a_fall_at_the_start_does_not_take_the_height() {
        let found = range(&[[-1119.0, -1119.0]], &[[-283.0, -183.0]]);
        assert!(found.cut && found.low > -300.0 && found.high < -170.0, "{found:?}");
        let found = range(&[[10.0, 12.0]], &[[11.0, 40.0]]);
        assert!(!found.cut && found.low < 10.0 && found.high > 40.0, "{found:?}");
        let alone = range(&[[5.0, 5.0]], &[]);
        assert!(!alone.cut && alone.low < 5.0 && alone.high > 5.0, "{alone:?}");
    }
}
