//! How well a policy reproduces data, for people.

use crate::evaluation::{ActionFit, ObservationFit, Reproduction};
use crate::support::tables;

/// The table of a policy's actions beside the data's, at most so many dimensions of them, the worst first where there
/// are more; and what can be said of its observations.
pub fn reproduction_text(found: &Reproduction, most: usize) -> String {
    let mut parts = Vec::new();
    if let Some(choice) = &found.choice {
        parts.push(format!(
            "the data's action is chosen in {:.1}% of {} steps; always choosing action {}: {:.1}%",
            100.0 * choice.accuracy,
            found.steps,
            choice.most_frequent,
            100.0 * choice.accuracy_of_most_frequent
        ));
    }
    if !found.actions.is_empty() {
        let mut rows: Vec<(usize, &ActionFit)> = found.actions.iter().enumerate().collect();
        let cut = rows.len() > most;
        if cut {
            let badness = |fit: &ActionFit| fit.error / fit.error_of_mean.max(1e-6);
            rows.sort_by(|(_, a), (_, b)| badness(b).total_cmp(&badness(a)));
            rows.truncate(most);
        }
        let cells = rows.into_iter().map(|(dimension, fit)| {
            vec![
                dimension.to_string(),
                fit.correlation.map_or("–".to_owned(), |correlation| format!("{correlation:.3}")),
                format!("{:.4}", fit.error),
                format!("{:.4}", fit.error_of_mean),
                format!("{:.1}%", 100.0 * fit.out_of_range),
            ]
        });
        let head = ["action", "correlation", "error", "error of the mean", "out of range"];
        let table = tables::aligned(&head, &head, cells.collect());
        let which = if cut {
            format!(", the {most} worst of {} dimensions", found.actions.len())
        } else {
            String::new()
        };
        parts.push(format!(
            "the policy's actions beside the data's, over {} steps{which}:\n{table}",
            found.steps
        ));
    }
    if let [first, ..] = found.observations.as_slice() {
        let of = |value: fn(&ObservationFit) -> f64| {
            let values = || found.observations.iter().map(value);
            (values().fold(value(first), f64::min), values().fold(value(first), f64::max))
        };
        let ((low, high), (least, greatest)) = (of(|fit| fit.mean), of(|fit| fit.std));
        let (_, out) = of(|fit| fit.out_of_range);
        parts.push(format!(
            "normalised observations: means from {low:.2} to {high:.2} (0 in the policy's own data), standard deviations from {least:.2} to {greatest:.2} (1), at most {:.1}% of a dimension out of range",
            100.0 * out
        ));
    }
    parts.join("\n")
}
