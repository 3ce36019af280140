//! Which target returns are asked for in turn, to see which of them a policy achieves.

use std::str::FromStr;

/// Targets of a sweep where nobody says how many.
const COUNT: usize = 7;

/// Targets of a sweep at most.
const MOST: usize = 1000;

/// `LOW:HIGH:N`: so many targets from the lowest to the highest, evenly spaced; or what is known of returns decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TargetSweep {
    range: Option<[f32; 2]>,
    count: usize,
}

impl TargetSweep {
    /// The targets; where the user gave no range they go from `least` to half a range above `best`.
    pub fn targets(self, least: f32, best: f32) -> Vec<f32> {
        let [low, high] = self.range.unwrap_or([least, best + (best - least) / 2.0]);
        let steps = (self.count - 1) as f64;
        let at = |index: usize| f64::from(low) + (f64::from(high) - f64::from(low)) * index as f64 / steps;
        (0..self.count).map(|index| at(index) as f32).collect()
    }
}

impl FromStr for TargetSweep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self { range: None, count: COUNT });
        }
        let number = |text: &str| text.trim().parse().ok().filter(|number: &f32| number.is_finite());
        let parts: Vec<&str> = text.split(':').collect();
        let (range, count) = match parts.as_slice() {
            [low, high] => (number(low).zip(number(high)), Some(COUNT)),
            [low, high, count] => (number(low).zip(number(high)), count.trim().parse().ok()),
            _ => (None, None),
        };
        match (range, count) {
            (Some((low, high)), Some(count)) if low < high && (2..=MOST).contains(&count) => {
                Ok(Self { range: Some([low, high]), count })
            }
            _ => Err(format!("expected LOW:HIGH or LOW:HIGH:N, with LOW below HIGH and N from 2 to {MOST}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_evenly_spaced() {
        let sweep: TargetSweep = "-400:200:4".parse().unwrap();
        assert_eq!(sweep.targets(0.0, 1.0), [-400.0, -200.0, 0.0, 200.0]);
        let sweep: TargetSweep = "".parse().unwrap();
        assert_eq!(sweep.targets(-800.0, -200.0), [-800.0, -650.0, -500.0, -350.0, -200.0, -50.0, 100.0]);
    }

    #[test]
    fn other_ranges_are_refused() {
        for bad in ["5", "5:5", "7:5", "a:b", "0:1:1", "0:1:2:3", "0:inf", "0:1:2000"] {
            assert!(bad.parse::<TargetSweep>().unwrap_err().starts_with("expected LOW:HIGH"), "{bad}");
        }
    }
}
