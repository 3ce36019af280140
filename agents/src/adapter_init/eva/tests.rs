//! EVA over a model of two inputs.

use tch::{Device, Kind, Tensor};

use super::*;
use crate::adapter::Rank;
use crate::model::Tap;
use crate::pca::{Covariance, End, Solver};
use crate::tensor::Rows;

const CPU: Device = Device::Cpu;

fn options(rank: u16) -> EvaOptions {
    EvaOptions::new(Rank::try_from(rank).unwrap())
}

/// A model of two inputs: `a` alone, `b` and `c` together.
fn inputs() -> Vec<SharedInput<char>> {
    vec![
        SharedInput { sites: vec!['a'], width: 6, of_patches: false },
        SharedInput { sites: vec!['b', 'c'], width: 4, of_patches: false },
    ]
}

/// Rows `[N, width]` whose i-th coordinate has deviation `scale · 0.5ⁱ`.
fn rows(count: i64, width: i64, scale: f64) -> Tensor {
    let deviations: Vec<f64> = (0..width).map(|i| scale * 0.5f64.powi(i as i32)).collect();
    Tensor::randn([count, width], (Kind::Float, CPU)) * Tensor::from_slice(&deviations).to_kind(Kind::Float)
}

fn show(tap: &mut dyn Tap<char>, a: &Tensor, b: &Tensor) {
    tap.record(&'a', &Rows::of(a));
    tap.record(&'b', &Rows::of(b));
    tap.record(&'c', &Rows::of(b));
}

fn find(options: EvaOptions, batches: usize) -> EvaResult<char> {
    let mut eva = Eva::new(inputs(), options, None, CPU);
    while eva.batches() < batches {
        let (a, b) = (rows(200, 6, 3.0), rows(200, 4, 2.0));
        if eva.observe(|tap| show(tap, &a, &b)).unwrap().done {
            break;
        }
    }
    eva.finish().unwrap()
}

fn ranks(found: &EvaResult<char>) -> Vec<i64> {
    found.sites.iter().map(|report| report.rank).collect()
}

#[test]
fn the_budget_is_spent_exactly_and_no_site_gets_more_than_rho_allows() {
    for (rho, most) in [(1.0, 2), (1.5, 3), (2.0, 4)] {
        let found = find(EvaOptions { rho, ..options(2) }, 6);
        assert_eq!(ranks(&found).iter().sum::<i64>(), 6, "rho {rho}");
        assert!(ranks(&found).iter().all(|rank| *rank <= most), "rho {rho}: {:?}", ranks(&found));
        for (site, down) in &found.components {
            let report = found.sites.iter().find(|report| report.site == *site).unwrap();
            assert_eq!(down.size()[0], report.rank);
        }
    }
}

#[test]
fn modules_that_share_an_input_share_its_components() {
    let found = find(EvaOptions { rho: 1.0, ..options(2) }, 6);
    assert_eq!(found.components[&'b'], found.components[&'c']);
}

#[test]
fn a_site_that_explains_little_next_to_others_gets_no_adapter() {
    let one = |width| SharedInput { sites: vec![width], width: i64::from(width), of_patches: false };
    let mut eva = Eva::new(vec![one(2), one(40)], options(1), None, CPU);
    for _ in 0..4 {
        let (few, many) = (rows(300, 2, 1.0), Tensor::randn([300, 40], (Kind::Float, CPU)));
        eva.observe(|tap: &mut dyn Tap<u8>| {
            tap.record(&2, &Rows::of(&few));
            tap.record(&40, &Rows::of(&many));
        })
        .unwrap();
    }
    let found = eva.finish().unwrap();
    assert_eq!(found.sites.iter().map(|report| report.rank).collect::<Vec<_>>(), [2, 0]);
    assert_eq!(found.sites[1].explained_variance(), 0.0);
}

#[test]
fn the_l1_norm_favours_large_activations_and_the_ratio_does_not() {
    // Eq. 6 is not free of units: ten times the activations are ten times the score.
    let spectrum = |scale: f64| {
        let mut solver = Covariance::new(2, 6, true, End::Leading);
        solver.update(&Rows::of(&(rows(200, 6, 1.0) * scale))).unwrap();
        solver.spectrum()
    };
    tch::manual_seed(1);
    let (small, large) = (spectrum(1.0), spectrum(10.0));
    let [small_l1, large_l1] = [&small, &large].map(|spectrum| Allocation::L1Norm.of(spectrum)[0]);
    let [small_ratio, large_ratio] =
        [&small, &large].map(|spectrum| Allocation::ExplainedVarianceRatio.of(spectrum)[0]);
    assert!(large_l1 / small_l1 > 5.0);
    assert!((large_ratio / small_ratio - 1.0).abs() < 0.3);
    let sigma = small.singular_values();
    let expected = sigma[0].powi(2) / (199.0 * (sigma[0] + sigma[1]));
    assert!((small_l1 - expected).abs() < 1e-12);
}

#[test]
fn whitening_refuses_a_component_without_variance() {
    let mut eva = Eva::new(
        vec![SharedInput { sites: vec!['a'], width: 4, of_patches: false }],
        EvaOptions { whiten: true, rho: 1.0, ..options(3) },
        Some(1),
        CPU,
    );
    // Two dimensions of four vary.
    let x = Tensor::cat(&[rows(50, 2, 1.0), Tensor::zeros([50, 2], (Kind::Float, CPU))], 1);
    eva.observe(|tap: &mut dyn Tap<char>| tap.record(&'a', &Rows::of(&x))).unwrap();
    let error = eva.finish().unwrap_err().to_string();
    assert!(error.contains("`whiten`") && error.contains("those of a hold a zero"), "{error}");
}

#[test]
fn whitened_rows_have_the_inverse_root_of_their_singular_value_for_length() {
    let found = find(EvaOptions { whiten: true, rho: 1.0, ..options(3) }, 4);
    let lengths = found.components[&'a'].square().sum_dim_intlist(1, false, Kind::Float).sqrt();
    let lengths: Vec<f64> = Vec::try_from(lengths.to_kind(Kind::Double)).unwrap();
    // σ falls by half from one component to the next, so its inverse root grows by √2.
    assert!((lengths[1] / lengths[0] - 2f64.sqrt()).abs() < 0.1, "{lengths:?}");
}

#[test]
fn ablations_keep_what_they_say() {
    let basis = Tensor::eye(6, (Kind::Double, CPU)).narrow(0, 0, 3)
        * Tensor::from_slice(&[1.0, 2.0, 3.0]).unsqueeze(1);
    let rotated = ablations::rotated(&basis);
    let product = |x: &Tensor| x.tr().matmul(x);
    assert!((product(&rotated) - product(&basis)).abs().max().double_value(&[]) < 1e-9);
    assert!((&rotated - &basis).abs().max().double_value(&[]) > 0.1);
    let permuted = ablations::permuted(&basis);
    let (sorted, _) = permuted.sort(0, false);
    let (expected, _) = basis.sort(0, false);
    assert_eq!(sorted, expected);
    assert_eq!(ablations::random(&basis).size(), basis.size());
    assert!(ablations::random(&basis).abs().max().double_value(&[]) <= 1.0 / 6f64.sqrt());
}

#[test]
fn halves_that_agree_end_the_search_and_say_how_sure_they_are() {
    let mut eva = Eva::new(inputs(), options(2), None, CPU);
    let mut progress = Progress::default();
    while !progress.done {
        assert!(eva.batches() < 400);
        let (a, b) = (rows(200, 6, 3.0), rows(200, 4, 2.0));
        progress = eva.observe(|tap| show(tap, &a, &b)).unwrap();
    }
    let found = eva.finish().unwrap();
    assert!(found.sites.iter().all(|report| report.cosine > 0.95 && report.cosine <= 1.0));
    // The true directions are the axes.
    let off_axes = found.components[&'a'].narrow(1, 2, 4).square().sum(Kind::Double).double_value(&[]);
    assert!(off_axes / found.components[&'a'].size()[0] as f64 <= 0.6, "{off_axes}");
}

#[test]
fn all_of_the_data_ends_the_search_however_little_the_halves_agree() {
    let mut eva = Eva::new(inputs(), EvaOptions { tau: Some(1.0), ..options(2) }, Some(3), CPU);
    let mut done = Vec::new();
    for _ in 0..3 {
        let (a, b) = (rows(20, 6, 3.0), rows(20, 4, 2.0));
        done.push(eva.observe(|tap| show(tap, &a, &b)).unwrap().done);
    }
    assert_eq!(done, [false, false, true]);
    assert!(eva.finish().unwrap().sites.iter().all(|report| report.cosine == 1.0));
}

#[test]
fn a_search_cut_short_says_how_sure_it_is() {
    let found = find(EvaOptions { tau: Some(1.0), ..options(2) }, 3);
    assert!(found.sites.iter().all(|report| report.cosine > 0.0 && report.cosine < 1.0));
}

#[test]
fn what_cannot_be_decomposed_is_named() {
    let mut eva = Eva::new(inputs(), options(2), None, CPU);
    let (a, b) = (rows(20, 6, 3.0), rows(20, 4, 2.0));
    eva.observe(|tap| show(tap, &a, &b)).unwrap();
    let error = eva.observe(|tap| show(tap, &a, &(&b * f64::NAN))).unwrap_err();
    assert!(matches!(&error, EvaError::NotFinite { site, batch: 1 } if site == "b"), "{error}");
    let error = eva.observe(|tap| tap.record(&'a', &Rows::of(&a))).unwrap_err();
    assert!(matches!(&error, EvaError::NotSeen { site } if site == "b"), "{error}");
}

#[test]
fn a_batch_shown_in_two_halves_gives_what_it_gives_whole() {
    let mut evas = [(); 2].map(|()| Eva::new(inputs(), options(2), None, CPU));
    for _ in 0..3 {
        let (a, b) = (rows(400, 6, 3.0), rows(400, 4, 2.0));
        let half = |x: &Tensor, start| x.narrow(0, start, 200);
        let (first, second) = ((half(&a, 0), half(&b, 0)), (half(&a, 200), half(&b, 200)));
        evas[0].observe(|tap| show(tap, &a, &b)).unwrap();
        let pass = move |tap: &mut dyn Tap<char>| show(tap, &second.0, &second.1);
        evas[1].observe_split(|tap| show(tap, &first.0, &first.1), pass).unwrap();
    }
    let [whole, halves] = evas.map(|eva| eva.finish().unwrap());
    assert_eq!(ranks(&whole), ranks(&halves));
    for (site, down) in &whole.components {
        let difference = (down - &halves.components[site]).abs().max().double_value(&[]);
        assert!(difference < 1e-4, "{site}: {difference}");
    }
}

#[test]
fn what_is_wrong_with_either_half_is_named() {
    for bad in [0, 1] {
        for batch in [0, 1] {
            let mut eva = Eva::new(inputs(), options(2), None, CPU);
            let (a, b) = (rows(20, 6, 3.0), rows(20, 4, 2.0));
            let half = |b: Tensor| {
                let a = a.copy();
                move |tap: &mut dyn Tap<char>| show(tap, &a, &b)
            };
            for _ in 0..batch {
                eva.observe_split(half(b.copy()), half(b.copy())).unwrap();
            }
            let [first, second] = [0, 1].map(|index| if index == bad { &b * f64::NAN } else { b.copy() });
            let error = eva.observe_split(half(first), half(second)).unwrap_err();
            let fits = matches!(&error, EvaError::NotFinite { site, batch: found } if site == "b" && *found == batch);
            assert!(fits, "half {bad}, batch {batch}: {error}");
        }
    }
}

#[test]
fn too_few_rows_are_an_error_and_no_endless_search() {
    for options in [
        options(2),
        EvaOptions { solver: SolverKind::Incremental, stop: StopRule::ComponentCosine, ..options(2) },
    ] {
        let mut eva = Eva::new(inputs(), options, None, CPU);
        let (a, b) = (rows(0, 6, 3.0), rows(0, 4, 2.0));
        for _ in 0..5 {
            assert!(!eva.observe(|tap| show(tap, &a, &b)).unwrap().done);
        }
        let error = eva.finish().unwrap_err();
        let fits = matches!(&error, EvaError::TooFewRows { batches: 5, found: 0, wanted: 4, .. });
        assert!(fits, "{error}");
    }
}

/// What is found in four batches of `a` and of what `b` and `c` share, where modules are named as they are shown.
fn find_growing(options: EvaOptions, ranks: &[(char, u16)], energy: Option<f64>) -> EvaResult<char> {
    let batches: Vec<_> = (0..4).map(|_| [rows(200, 6, 3.0), rows(200, 4, 2.0)]).collect();
    find_growing_in(&batches, options, ranks, energy)
}

fn find_growing_in(
    batches: &[[Tensor; 2]],
    options: EvaOptions,
    ranks: &[(char, u16)],
    energy: Option<f64>,
) -> EvaResult<char> {
    let ranks = ranks.iter().map(|(site, rank)| (*site, Rank::try_from(*rank).unwrap())).collect();
    let mut eva = Eva::growing(options, ranks, None, CPU);
    if let Some(energy) = energy {
        eva = eva.with_energy(energy);
    }
    for (number, [a, b]) in batches.iter().enumerate() {
        if number == 0 {
            eva.add_input(SharedInput { sites: vec!['a'], width: 6, of_patches: false });
            eva.add_input(SharedInput { sites: vec!['b'], width: 4, of_patches: false });
            eva.join_input(&'b', 'c');
        }
        eva.record(&'a', &Rows::of(a)).unwrap();
        eva.record(&'b', &Rows::of(b)).unwrap();
        eva.end_batch();
    }
    eva.finish().unwrap()
}

#[test]
fn modules_named_as_they_are_shown_get_what_a_pass_would_give_them() {
    let options = EvaOptions { tau: Some(1.0), ..options(2) };
    let batches: Vec<_> = (0..4).map(|_| [rows(200, 6, 3.0), rows(200, 4, 2.0)]).collect();
    let grown = find_growing_in(&batches, options.clone(), &[], None);
    let mut whole = Eva::new(inputs(), options, None, CPU);
    for [a, b] in &batches {
        whole.observe(|tap| show(tap, a, b)).unwrap();
    }
    let whole = whole.finish().unwrap();
    assert_eq!(ranks(&grown), ranks(&whole));
    assert_eq!(grown.components, whole.components);
}

#[test]
fn a_rank_of_its_own_sets_a_module_s_part_of_the_budget_and_its_most() {
    let options = EvaOptions { rho: 1.0, ..options(1) };
    assert_eq!(ranks(&find_growing(options.clone(), &[('a', 4)], None)), [4, 1, 1]);
    // Modules of one input have the candidates of the largest rank among them.
    assert_eq!(ranks(&find_growing(options, &[('c', 3)], None)), [1, 2, 2]);
}

#[test]
fn energy_gives_each_module_the_fewest_components_that_explain_it() {
    // Deviations 1, ½, ¼, … give shares of nearly 0.75, 0.19, 0.05, ….
    let options = EvaOptions { rho: 1.0, ..options(3) };
    for (energy, expected) in [(0.5, [1, 1, 1]), (0.9, [2, 2, 2]), (0.97, [3, 3, 3]), (1.0, [3, 3, 3])] {
        assert_eq!(ranks(&find_growing(options.clone(), &[], Some(energy))), expected, "energy {energy}");
    }
}

#[test]
fn a_module_without_variance_gets_nothing_of_any_energy() {
    let mut eva = Eva::growing(options(2), Default::default(), None, CPU).with_energy(0.9);
    eva.add_input(SharedInput { sites: vec!['a'], width: 4, of_patches: false });
    eva.record(&'a', &Rows::of(&Tensor::ones([50, 4], (Kind::Float, CPU)))).unwrap();
    eva.end_batch();
    assert_eq!(ranks(&eva.finish().unwrap()), [0]);
}
