//! The learning rate over a run's updates.

/// The learning rate of update `update` (from 0) of `total`: linear warm-up, then the chosen decay.
pub fn learning_rate(peak: f64, update: usize, warm_up: usize, total: usize, decay: Decay) -> f64 {
    if update < warm_up {
        return peak * (update + 1) as f64 / warm_up as f64;
    }
    let progress = ((update - warm_up) as f64 / total.saturating_sub(warm_up).max(1) as f64).min(1.0);
    match decay {
        Decay::Constant => peak,
        Decay::Linear => peak * (1.0 - progress),
        Decay::Cosine => peak * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
    }
}

/// What the learning rate does after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// Stays.
    Constant,
    /// Falls to zero along a line.
    Linear,
    /// Falls to zero along half a cosine.
    Cosine,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_warms_up_and_then_falls() {
        let rate = |update| learning_rate(1.0, update, 10, 110, Decay::Cosine);
        assert_eq!((rate(0), rate(9), rate(10)), (0.1, 1.0, 1.0));
        assert!((rate(60) - 0.5).abs() < 1e-12 && rate(110) < 1e-12);
        let rate = |update| learning_rate(1.0, update, 10, 110, Decay::Linear);
        assert_eq!((rate(0), rate(10), rate(35), rate(110)), (0.1, 1.0, 0.75, 0.0));
    }
}
