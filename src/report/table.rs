//! Tables of scores.

use std::collections::BTreeMap;

use super::comparison::{Comparison, Group, Measure};
use super::statistics::{bootstrap, interquartile_mean, mean, wilson_interval};
use super::tabular::Table;

/// A row per task and method: before, after with its interval over runs, and how many runs improved.
pub fn by_task(comparison: &Comparison) -> Table {
    let head = [
        "task",
        "method",
        "runs",
        "before",
        "after: mean",
        "interquartile mean",
        "bootstrap 95%",
        "best",
        "improved",
    ];
    let mut table = Table::new("", &head);
    let (mut improved, mut all) = (0, 0);
    for (task, methods) in &comparison.tasks {
        for (method, group) in methods {
            let (first, last) = (group.first(), group.last());
            let best =
                group.by_updates().values().map(|scores| mean(scores)).fold(f64::NEG_INFINITY, f64::max);
            let [low, high] = bootstrap(&[&last], mean);
            let better = improvements(group);
            (improved, all) = (improved + better, all + last.len());
            table.rows.push(vec![
                task.clone(),
                method.clone(),
                last.len().to_string(),
                format!("{:.1}", mean(&first)),
                format!("{:.1}", mean(&last)),
                format!("{:.1}", interquartile_mean(&last)),
                format!("{low:.1} to {high:.1}"),
                format!("{best:.1}"),
                fraction(better, last.len()),
            ]);
        }
    }
    table.outro =
        format!("Runs whose last evaluation is better than their first: {}.", fraction(improved, all));
    table
}

/// A row per method, a column per task: mean and standard error over runs, and the mean over tasks where scores of
/// different tasks may be averaged; nothing where there is one method.
pub fn side_by_side(comparison: &Comparison, measure: Measure) -> Option<Table> {
    let methods = comparison.methods();
    if methods.len() < 2 {
        return None;
    }
    let averaged = measure.compares_tasks() && comparison.tasks.len() > 1;
    let mut table = Table::new("", &["method"]);
    table.head.extend(comparison.tasks.keys().cloned());
    table.head.extend(averaged.then(|| "mean".to_owned()));
    for method in methods {
        let mut row = vec![method.to_owned()];
        let runs: Vec<Option<Vec<f64>>> =
            comparison.tasks.values().map(|groups| groups.get(method).map(Group::last)).collect();
        for scores in &runs {
            row.push(match scores {
                None => "–".to_owned(),
                Some(scores) => format!("{:.1} ± {:.1}", mean(scores), standard_error(scores)),
            });
        }
        if averaged {
            let means: Option<Vec<f64>> =
                runs.iter().map(|scores| scores.as_ref().map(|scores| mean(scores))).collect();
            row.push(means.map_or("–".to_owned(), |means| format!("{:.1}", mean(&means))));
        }
        table.rows.push(row);
    }
    Some(table)
}

/// A row per method that has several ranks: its best rank over the tasks that all of its ranks share, and what
/// it would score with the best rank of each task, as the tables of EVA's paper do (arXiv 2410.07170, 23).
pub fn by_best_rank(comparison: &Comparison) -> Option<Table> {
    let mut families: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for method in comparison.methods() {
        if let (Some(_), rest) = split_rank(method) {
            families.entry(rest).or_default().push(method);
        }
    }
    families.retain(|_, ranks| ranks.len() > 1);
    let head = ["method", "best single rank", "its mean", "mean of each task's best rank"];
    let mut table = Table::new("", &head);
    for (family, ranks) in &families {
        // Of each rank, its mean on every task that all ranks share.
        let tasks = comparison.shared_by(ranks);
        let scores: Vec<Vec<f64>> = tasks
            .iter()
            .map(|groups| ranks.iter().map(|rank| mean(&groups[*rank].last())).collect())
            .collect();
        if scores.is_empty() {
            continue;
        }
        let singles =
            (0..ranks.len()).map(|rank| mean(&scores.iter().map(|task| task[rank]).collect::<Vec<_>>()));
        let (best, single) = singles.enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let bests: Vec<f64> =
            scores.iter().map(|task| task.iter().copied().fold(f64::NEG_INFINITY, f64::max)).collect();
        let (single, best_of_each) = (format!("{single:.1}"), format!("{:.1}", mean(&bests)));
        table.rows.push(vec![family.clone(), ranks[best].to_owned(), single, best_of_each]);
    }
    (!table.rows.is_empty()).then_some(table)
}

/// The rank that a method ends with, where it has one, and the rest of its name.
pub(super) fn split_rank(method: &str) -> (Option<&str>, String) {
    let (rank, rest): (Vec<&str>, Vec<&str>) = method.split(", ").partition(|part| part.starts_with("rank "));
    let last = rank.first().and_then(|rank| rank.rsplit(' ').next()); // AdaLoRA's is "rank 6 to 4"
    (last, rest.join(", "))
}

/// Of the mean, over runs; 0 of one run.
fn standard_error(scores: &[f64]) -> f64 {
    let (count, mean) = (scores.len() as f64, mean(scores));
    let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
    if scores.len() > 1 { (squares / (count - 1.0) / count).sqrt() } else { 0.0 }
}

/// Runs that end better than they began.
fn improvements(group: &Group) -> usize {
    group.first().iter().zip(group.last()).filter(|(first, last)| last > *first).count()
}

/// "4 of 5 (38% to 96%)", by Wilson's 95% interval.
fn fraction(count: usize, of: usize) -> String {
    let [low, high] = wilson_interval(count, of);
    format!("{count} of {of} ({:.0}% to {:.0}%)", 100.0 * low, 100.0 * high)
}

/// A row per method over the tasks that all methods share; nothing where there is one task or one method.
pub fn over_tasks(comparison: &Comparison) -> Option<Table> {
    let methods: Vec<&str> = comparison.methods().into_iter().collect();
    let shared = comparison.shared_by(&methods);
    if methods.len() < 2 || shared.len() < 2 {
        return None;
    }
    let intro = format!(
        "Over the {} tasks that all methods share, with intervals by a bootstrap stratified by task:",
        shared.len()
    );
    let mut table = Table::new(intro, &["method", "mean", "95%", "interquartile mean", "95%"]);
    for method in methods {
        let scores: Vec<Vec<f64>> = shared.iter().map(|task| task[method].last()).collect();
        let tasks: Vec<&[f64]> = scores.iter().map(Vec::as_slice).collect();
        let all = tasks.concat();
        let ([low, high], [iqm_low, iqm_high]) =
            (bootstrap(&tasks, mean), bootstrap(&tasks, interquartile_mean));
        table.rows.push(vec![
            method.to_owned(),
            format!("{:.1}", mean(&all)),
            format!("{low:.1} to {high:.1}"),
            format!("{:.1}", interquartile_mean(&all)),
            format!("{iqm_low:.1} to {iqm_high:.1}"),
        ]);
    }
    Some(table)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A method's runs on a task, each with its first and its last score.
    pub(in super::super) type Runs<'a> = (&'a str, &'a str, &'a [(f64, f64)]);

    pub(in super::super) fn comparison(tasks: &[Runs]) -> Comparison {
        let mut found = Comparison::default();
        for (task, method, runs) in tasks {
            let curves =
                runs.iter().map(|(first, last)| BTreeMap::from([(0, *first), (10, *last)])).collect();
            found
                .tasks
                .entry((*task).to_owned())
                .or_default()
                .insert((*method).to_owned(), Group { curves, ..Group::default() });
        }
        found
    }

    #[test]
    fn a_row_counts_the_runs_that_improved() {
        let table = by_task(&comparison(&[("t", "EVA", &[(1.0, 2.0), (1.0, 0.5), (1.0, 3.5)])])).markdown();
        assert!(table.contains("| t | EVA | 3 | 1.0 | 2.0 |"), "{table}");
        assert!(table.contains("| 2 of 3 (21% to 94%) |"), "{table}");
    }

    #[test]
    fn the_best_rank_is_one_for_all_tasks_or_one_a_task() {
        let found = comparison(&[
            ("a", "EVA, rank 2", &[(0.0, 40.0)]),
            ("a", "EVA, rank 4", &[(0.0, 60.0)]),
            ("b", "EVA, rank 2", &[(0.0, 90.0)]),
            ("b", "EVA, rank 4", &[(0.0, 50.0)]),
            ("a", "full fine-tuning", &[(0.0, 9.0)]),
        ]);
        let table = by_best_rank(&found).unwrap().markdown();
        assert!(table.ends_with("\n| EVA | EVA, rank 2 | 65.0 | 75.0 |"), "{table}");
    }

    #[test]
    fn a_mean_over_tasks_wants_runs_on_every_task() {
        let found = comparison(&[
            ("a", "EVA", &[(0.0, 1.0), (0.0, 3.0)]),
            ("b", "EVA", &[(0.0, 6.0)]),
            ("a", "LoRA", &[(0.0, 5.0)]),
        ]);
        let table = side_by_side(&found, Measure::Success).unwrap().markdown();
        assert!(table.starts_with("| method | a | b | mean |\n|---|---|---|---|\n"), "{table}");
        assert!(
            table.ends_with("\n| EVA | 2.0 ± 1.0 | 6.0 ± 0.0 | 4.0 |\n| LoRA | 5.0 ± 0.0 | – | – |"),
            "{table}"
        );
    }

    #[test]
    fn methods_are_compared_where_all_have_runs() {
        let found = comparison(&[
            ("a", "EVA", &[(0.0, 3.0)]),
            ("a", "LoRA", &[(0.0, 1.0)]),
            ("b", "EVA", &[(0.0, 5.0)]),
            ("b", "LoRA", &[(0.0, 7.0)]),
            ("c", "EVA", &[(0.0, 900.0)]),
        ]);
        let table = over_tasks(&found).unwrap().markdown();
        assert!(table.contains("Over the 2 tasks"), "{table}");
        assert!(table.contains("| EVA | 4.0 | 4.0 to 4.0 | 4.0 | 4.0 to 4.0 |"), "{table}");
        assert_eq!(over_tasks(&comparison(&[("a", "EVA", &[(0.0, 1.0)])])), None);
    }
}
