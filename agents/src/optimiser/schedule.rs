//! The learning rate over a run's updates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The learning rate over a run's updates: a linear warm-up, then what the name says.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// The peak rate.
    Constant {
        /// Updates of warm-up, over which the rate rises linearly from zero.
        warmup: usize,
    },
    /// Falls to zero along a line.
    Linear {
        /// Updates of warm-up, over which the rate rises linearly from zero.
        warmup: usize,
    },
    /// Falls to zero along half a cosine.
    Cosine {
        /// Updates of warm-up, over which the rate rises linearly from zero.
        warmup: usize,
    },
}

impl Schedule {
    /// Its key, and its updates of warm-up.
    pub fn warmup(self) -> (&'static str, usize) {
        match self {
            Self::Constant { warmup } => ("constant", warmup),
            Self::Linear { warmup } => ("linear", warmup),
            Self::Cosine { warmup } => ("cosine", warmup),
        }
    }

    /// The learning rate of update `update` (from 0) of `total`.
    pub fn learning_rate(self, peak: f64, update: usize, total: usize) -> f64 {
        let (_, warmup) = self.warmup();
        if update < warmup {
            return peak * (update + 1) as f64 / warmup as f64;
        }
        let progress = ((update - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64).min(1.0);
        match self {
            Self::Constant { .. } => peak,
            Self::Linear { .. } => peak * (1.0 - progress),
            Self::Cosine { .. } => peak * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_warms_up_and_then_falls() {
        let rate = |update| Schedule::Cosine { warmup: 10 }.learning_rate(1.0, update, 110);
        assert_eq!((rate(0), rate(9), rate(10)), (0.1, 1.0, 1.0));
        assert!((rate(60) - 0.5).abs() < 1e-12 && rate(110) < 1e-12);
        let rate = |update| Schedule::Linear { warmup: 10 }.learning_rate(1.0, update, 110);
        assert_eq!((rate(0), rate(10), rate(35), rate(110)), (0.1, 1.0, 0.75, 0.0));
    }
}
