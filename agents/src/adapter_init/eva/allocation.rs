//! Allocates a rank budget over modules by how much variance each next component explains.
//!
//! EVA (arXiv 2410.07170), section on rank redistribution. A module's candidates are cut to `rho · rank`
//! before this is called, so a module can never exceed its cap here.

use std::collections::BTreeMap;

use crate::adapter::Rank;

/// Gives the `budget` best-explaining components to their modules; ties go to the earlier module.
///
/// `explained` holds each module's ratios in descending order. A module that gets none is absent.
pub fn allocate<S: Ord + Clone>(explained: &BTreeMap<S, Vec<f64>>, budget: usize) -> BTreeMap<S, Rank> {
    let mut candidates: Vec<(&S, f64)> = Vec::new();
    for (site, ratios) in explained {
        candidates.extend(ratios.iter().map(|ratio| (site, *ratio)));
    }
    candidates.sort_by(|(_, a), (_, b)| b.total_cmp(a)); // stable, so ties keep the sites' order

    let mut counts: BTreeMap<&S, u16> = BTreeMap::new();
    for (site, _) in candidates.into_iter().take(budget) {
        *counts.entry(site).or_default() += 1;
    }
    counts
        .into_iter()
        .map(|(site, count)| (site.clone(), Rank::try_from(count).expect("a counted site has at least one")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(explained: &[(char, &[f64])], budget: usize, expected: &[(char, i64)]) {
        let explained = explained.iter().map(|(site, ratios)| (*site, ratios.to_vec())).collect();
        let ranks: Vec<(char, i64)> =
            allocate(&explained, budget).into_iter().map(|(site, rank)| (site, rank.get())).collect();
        assert_eq!(ranks, expected);
    }

    #[test]
    fn the_richer_site_gets_more() {
        check(&[('q', &[0.6, 0.3]), ('o', &[0.4, 0.1])], 3, &[('o', 1), ('q', 2)]);
    }

    #[test]
    fn a_site_that_explains_nothing_new_gets_no_adapter() {
        check(&[('q', &[0.6, 0.3]), ('o', &[0.1, 0.1])], 2, &[('q', 2)]);
    }

    #[test]
    fn ties_go_to_the_first_site() {
        check(&[('a', &[0.5]), ('b', &[0.5])], 1, &[('a', 1)]);
    }

    #[test]
    fn the_budget_is_spent_exactly_where_candidates_suffice() {
        check(&[('a', &[0.3, 0.2, 0.0]), ('b', &[0.3, 0.2, 0.0])], 5, &[('a', 3), ('b', 2)]);
    }

    #[test]
    fn too_few_candidates_are_all_taken() {
        check(&[('a', &[0.3])], 4, &[('a', 1)]);
    }

    #[test]
    fn no_sites_get_nothing() {
        check(&[], 4, &[]);
    }
}
