//! What a few runs say of a method: means that outliers do not rule, and how sure one can be of them.
//!
//! After Agarwal et al. 2021 (arXiv 2108.13264): interquartile means, bootstrap intervals stratified by
//! task, and the probability of improvement.

use rand::Rng;

use crate::support::seeds::{self, Purpose};

/// Resamples of a bootstrap interval.
const RESAMPLES: usize = 2000;

/// The mean of at least one value.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Mean of the middle half; a value at its edge counts by the part that lies inside.
pub fn interquartile_mean(values: &[f64]) -> f64 {
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

/// 95% percentile interval of `statistic`: every task's runs are drawn again, with replacement.
pub fn bootstrap(tasks: &[&[f64]], statistic: impl Fn(&[f64]) -> f64) -> [f64; 2] {
    let mut draw = seeds::generator(0, Purpose::Bootstrap, 0);
    let found = (0..RESAMPLES).map(|_| {
        let again: Vec<f64> = tasks
            .iter()
            .flat_map(|runs| (0..runs.len()).map(|_| runs[draw.gen_range(0..runs.len())]).collect::<Vec<_>>())
            .collect();
        statistic(&again)
    });
    middle(found.collect())
}

/// How often a run of the first method beats one of the second on the same task, a tie counting half:
/// the mean over tasks, each with both methods' runs.
pub fn probability_of_improvement(tasks: &[(&[f64], &[f64])]) -> f64 {
    let of_task = |(first, second): &(&[f64], &[f64])| {
        let mut wins = 0.0;
        for x in *first {
            for y in *second {
                wins += if x > y {
                    1.0
                } else if x == y {
                    0.5
                } else {
                    0.0
                };
            }
        }
        wins / (first.len() * second.len()) as f64
    };
    tasks.iter().map(of_task).sum::<f64>() / tasks.len() as f64
}

/// 95% percentile interval of the probability of improvement: both methods' runs are drawn again, task by task.
pub fn improvement_interval(tasks: &[(&[f64], &[f64])]) -> [f64; 2] {
    let mut draw = seeds::generator(0, Purpose::Bootstrap, 0);
    let mut again =
        |runs: &[f64]| -> Vec<f64> { (0..runs.len()).map(|_| runs[draw.gen_range(0..runs.len())]).collect() };
    let found = (0..RESAMPLES).map(|_| {
        let drawn: Vec<_> = tasks.iter().map(|(first, second)| (again(first), again(second))).collect();
        let pairs: Vec<_> = drawn.iter().map(|(first, second)| (&first[..], &second[..])).collect();
        probability_of_improvement(&pairs)
    });
    middle(found.collect())
}

/// Where the middle 95% of the values of as many resamples begin and end.
fn middle(mut found: Vec<f64>) -> [f64; 2] {
    found.sort_by(f64::total_cmp);
    [found[RESAMPLES * 25 / 1000], found[RESAMPLES * 975 / 1000 - 1]]
}

/// Wilson's 95% interval of a share: `count` of `of`, which is at least 1.
pub fn wilson_interval(count: usize, of: usize) -> [f64; 2] {
    let (n, z) = (of as f64, 1.96);
    let fraction = count as f64 / n;
    let centre = fraction + z * z / (2.0 * n);
    let half = z * (fraction * (1.0 - fraction) / n + z * z / (4.0 * n * n)).sqrt();
    [(centre - half) / (1.0 + z * z / n), (centre + half) / (1.0 + z * z / n)]
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
        let [low, high] = bootstrap(&[&[1.0, 2.0, 3.0, 4.0, 5.0]], mean);
        assert!(low < 3.0 && 3.0 < high && low >= 1.0 && high <= 5.0);
        assert_eq!(bootstrap(&[&[2.0]], mean), [2.0, 2.0]);
    }

    #[test]
    fn a_stratified_resample_keeps_every_task() {
        // Tasks whose runs agree leave nothing to be unsure of, however far apart the tasks are.
        assert_eq!(bootstrap(&[&[1.0, 1.0], &[9.0, 9.0]], mean), [5.0, 5.0]);
    }

    #[test]
    fn the_probability_of_improvement_counts_pairs_within_tasks() {
        assert_eq!(probability_of_improvement(&[(&[2.0, 4.0], &[1.0, 3.0])]), 0.75);
        assert_eq!(probability_of_improvement(&[(&[1.0], &[1.0]), (&[9.0], &[0.0])]), 0.75);
    }

    #[test]
    fn the_interval_of_an_improvement_holds_it() {
        let tasks: [(&[f64], &[f64]); 2] = [(&[1.0, 3.0, 5.0], &[2.0, 4.0]), (&[1.0, 1.0], &[0.0, 2.0])];
        let ([low, high], middle) = (improvement_interval(&tasks), probability_of_improvement(&tasks));
        assert!(0.0 <= low && low < middle && middle < high && high <= 1.0, "{low} {middle} {high}");
        assert_eq!(improvement_interval(&[(&[2.0], &[1.0])]), [1.0, 1.0]);
    }

    #[test]
    fn wilson_s_interval_is_that_of_the_tables() {
        let [low, high] = wilson_interval(5, 5);
        assert!((low - 0.5655).abs() < 1e-3 && (high - 1.0).abs() < 1e-9, "{low} {high}");
        let [low, high] = wilson_interval(3, 10);
        assert!((low - 0.1078).abs() < 1e-3 && (high - 0.6032).abs() < 1e-3, "{low} {high}");
    }
}
