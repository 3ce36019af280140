//! How probably one method beats another.

use std::collections::BTreeSet;

use super::comparison::Comparison;
use super::statistics::{improvement_interval, probability_of_improvement};
use super::table::split_rank;
use super::tabular::Table;

/// Methods that are compared in pairs at most; more would not fit a page.
const MOST_COMPARED: usize = 12;

/// A table per rank, over the tasks that its methods share: the probability that a run of the row's method beats one
/// of the column's on the same task. Methods without a rank stand beside those of every rank.
pub fn in_pairs(comparison: &Comparison) -> Vec<Table> {
    let methods = comparison.methods();
    let mut ranks: BTreeSet<Option<u64>> =
        methods.iter().filter_map(|method| rank_of(method)).map(Some).collect();
    if ranks.is_empty() {
        ranks.insert(None);
    }
    let mut tables: Vec<Table> = ranks
        .into_iter()
        .filter_map(|rank| {
            let fits = |method: &&str| rank_of(method).is_none_or(|found| Some(found) == rank);
            at_rank(comparison, rank, &methods.iter().copied().filter(fits).collect::<Vec<_>>())
        })
        .collect();
    if let Some(first) = tables.first_mut() {
        first.intro = "How probably a run of the row's method beats one of the column's on the same task, a tie counting half, with intervals by a bootstrap stratified by task:".to_owned();
    }
    tables
}

fn rank_of(method: &str) -> Option<u64> {
    split_rank(method).0.and_then(|rank| rank.parse().ok())
}

fn at_rank(comparison: &Comparison, rank: Option<u64>, methods: &[&str]) -> Option<Table> {
    let tasks = comparison.shared_by(methods);
    if !(2..=MOST_COMPARED).contains(&methods.len()) || tasks.is_empty() {
        return None;
    }
    let scores: Vec<Vec<Vec<f64>>> =
        methods.iter().map(|method| tasks.iter().map(|task| task[*method].last()).collect()).collect();
    let names: Vec<String> = methods.iter().map(|method| split_rank(method).1).collect();
    let corner = rank.map_or("P(row > column)".to_owned(), |rank| format!("rank {rank}"));
    let mut table = Table::new("", &[&corner]);
    table.head.extend(names.iter().cloned());
    for (row, mine) in scores.iter().enumerate() {
        let mut cells = vec![names[row].clone()];
        for (column, theirs) in scores.iter().enumerate() {
            if row == column {
                cells.push("–".to_owned());
                continue;
            }
            let pairs: Vec<(&[f64], &[f64])> =
                mine.iter().zip(theirs).map(|(mine, theirs)| (&mine[..], &theirs[..])).collect();
            let [low, high] = improvement_interval(&pairs);
            cells.push(format!("{:.2} ({low:.2} to {high:.2})", probability_of_improvement(&pairs)));
        }
        table.rows.push(cells);
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::{Runs, comparison};
    use super::*;

    #[test]
    fn methods_are_compared_at_the_same_rank() {
        let found = comparison(&[
            ("a", "EVA, rank 4", &[(0.0, 3.0)]),
            ("a", "AdaLoRA, rank 6 to 4", &[(0.0, 1.0)]),
            ("a", "EVA, rank 16", &[(0.0, 9.0)]),
            ("a", "full fine-tuning", &[(0.0, 5.0)]),
            ("b", "EVA, rank 4", &[(0.0, 5.0)]),
            ("b", "AdaLoRA, rank 6 to 4", &[(0.0, 7.0)]),
            ("b", "full fine-tuning", &[(0.0, 2.0)]),
        ]);
        let table = in_pairs(&found).iter().map(Table::markdown).collect::<String>();
        let four = "| rank 4 | AdaLoRA | EVA | full fine-tuning |\n|---|---|---|---|\n\
                    | AdaLoRA | – | 0.50 (0.50 to 0.50) | 0.50 (0.50 to 0.50) |\n";
        assert!(table.contains(four), "{table}");
        let sixteen = "| EVA | – | 1.00 (1.00 to 1.00) |"; // on the one task that it has
        assert!(table.contains("| rank 16 |") && table.contains(sixteen), "{table}");
    }

    #[test]
    fn methods_without_ranks_are_compared_too() {
        let runs: [Runs; 2] = [("a", "x", &[(0.0, 1.0)]), ("a", "y", &[(0.0, 2.0)])];
        assert!(in_pairs(&comparison(&runs))[0].markdown().contains("| P(row > column) | x | y |"));
        assert!(in_pairs(&comparison(&runs[..1])).is_empty());
    }
}
