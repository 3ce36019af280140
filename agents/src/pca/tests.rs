//! Every solver against the exact decomposition of all rows at once.

use tch::{Device, Kind, Tensor};

use super::*;
use crate::tensor::Rows;

const CPU: Device = Device::Cpu;

/// Rows whose i-th coordinate has deviation `deviations[i]` around `mean`, float32.
pub(super) fn rows(count: i64, deviations: &[f64], mean: f64) -> Tensor {
    let noise = Tensor::randn([count, deviations.len() as i64], (Kind::Double, CPU));
    (noise * Tensor::from_slice(deviations) + mean).to_kind(Kind::Float)
}

/// Singular values and directions of all rows at once, by SVD in float64: `[C]`, `[C, width]`.
pub(super) fn exact(x: &Tensor, components: i64, centred: bool) -> (Tensor, Tensor) {
    let x = x.to_kind(Kind::Double);
    let x = if centred { &x - x.mean_dim(0, true, Kind::Double) } else { x };
    let (_, singular_values, vectors) = x.svd(true, true);
    (singular_values.narrow(0, 0, components), vectors.narrow(1, 0, components).tr())
}

/// Largest principal angle between two spans, in radians.
pub(super) fn angle(a: &Tensor, b: &Tensor) -> f64 {
    let rest = a - a.matmul(&b.tr()).matmul(b);
    let (_, sines, _) = rest.svd(true, true);
    sines.max().double_value(&[]).min(1.0).asin()
}

fn solvers(components: i64, width: i64, centred: bool) -> [(&'static str, Box<dyn Solver>); 3] {
    [
        ("gram", Box::new(Covariance::new(components, width, centred, End::Leading))),
        ("sketch", Box::new(NystromSketch::new(components, width, centred))),
        ("incremental", Box::new(IncrementalPca::new(components, width, centred, CPU))),
    ]
}

/// Every solver's span and ratios against the SVD of all rows together; what incremental PCA forgets between
/// batches is forgiven.
#[track_caller]
fn check(x: &Tensor, components: i64, batch: i64, centred: bool, tolerance: f64) {
    let width = x.size()[1];
    let (singular_values, basis) = exact(x, components, centred);
    let (all, _) = exact(x, width.min(x.size()[0]), centred);
    let total = all.square().sum(Kind::Double);
    let ratios: Vec<f64> = Vec::try_from(singular_values.square() / total).unwrap();
    for (name, mut solver) in solvers(components, width, centred) {
        let forgets = name == "incremental" && batch < x.size()[0];
        let tolerance = if forgets { 3e-2 } else { tolerance };
        x.split(batch, 0).iter().for_each(|batch| solver.update(&Rows::of(batch)).unwrap());
        let found = solver.spectrum();
        assert_eq!(found.rows, x.size()[0]);
        let angle = angle(&found.basis, &basis);
        assert!(angle < tolerance, "{name}'s span is {angle} off");
        for (found, expected) in found.explained_ratio().iter().zip(&ratios) {
            assert!((found - expected).abs() < tolerance, "{name}: ratio {found}, expected {expected}");
        }
        let lengths = found.basis.matmul(&found.basis.tr()) - Tensor::eye(components, (Kind::Double, CPU));
        assert!(lengths.abs().max().double_value(&[]) < 1e-5, "{name}'s directions are not orthonormal");
    }
}

#[test]
fn a_known_spectrum_is_found_in_one_batch_and_in_many() {
    tch::manual_seed(1);
    let x = rows(600, &[9.0, 5.0, 2.0, 0.01, 0.005], 3.0);
    check(&x, 3, 600, true, 1e-3);
    check(&x, 3, 50, true, 1e-3);
}

#[test]
fn wide_rows_are_found_too() {
    tch::manual_seed(2);
    let deviations: Vec<f64> = (0..400).map(|i| 10.0 * 0.7f64.powi(i)).collect();
    let x = rows(900, &deviations, 1.0);
    check(&x, 6, 900, true, 1e-3);
    check(&x, 6, 300, true, 1e-3);
}

#[test]
fn fewer_rows_in_a_batch_than_components_do() {
    tch::manual_seed(3);
    check(&rows(60, &[5.0, 3.0, 1.0, 0.5, 0.01, 0.01], 2.0), 4, 4, true, 5e-3);
}

#[test]
fn a_mean_of_ten_thousand_deviations_costs_no_direction() {
    tch::manual_seed(4);
    check(&rows(800, &[3.0, 2.0, 1.0, 0.1, 0.1], 3e4), 3, 100, true, 2e-2);
}

#[test]
fn uncentred_rows_have_their_mean_for_first_direction() {
    tch::manual_seed(5);
    let x = rows(600, &[3.0, 1.0, 0.5, 0.01], 10.0);
    check(&x, 3, 100, false, 1e-3);
    let mean = Tensor::full([1, 4], 0.5, (Kind::Double, CPU)); // a unit vector
    for (_, mut solver) in solvers(1, 4, false) {
        solver.update(&Rows::of(&x)).unwrap();
        assert!(angle(&solver.spectrum().basis, &mean) < 0.05);
    }
}

#[test]
fn rows_of_a_lower_rank_than_the_components_leave_the_rest_at_zero() {
    tch::manual_seed(6);
    let x = rows(300, &[4.0, 2.0, 0.0, 0.0, 0.0, 0.0], 1.0);
    for (name, mut solver) in solvers(4, 6, true) {
        x.split(100, 0).iter().for_each(|batch| solver.update(&Rows::of(batch)).unwrap());
        let found = solver.spectrum();
        let ratios = found.explained_ratio();
        assert!((ratios[0] + ratios[1] - 1.0).abs() < 1e-6, "{name}: {ratios:?}");
        assert!(ratios[2].abs() < 1e-6 && ratios[3].abs() < 1e-6, "{name}: {ratios:?}");
        let lengths = found.basis.square().sum_dim_intlist(1, false, Kind::Double);
        assert!((lengths - 1.0).abs().max().double_value(&[]) < 1e-5, "{name}");
    }
}

#[test]
fn equal_singular_values_leave_the_span_of_both() {
    tch::manual_seed(7);
    let q = orthonormal(&Tensor::randn([400, 4], (Kind::Double, CPU))); // equal ones, exactly
    let centred = orthonormal(&(&q - q.mean_dim(0, true, Kind::Double)));
    let x = (centred * Tensor::from_slice(&[5.0, 5.0, 1.0, 0.5])).to_kind(Kind::Float);
    for (name, mut solver) in solvers(2, 4, true) {
        x.split(100, 0).iter().for_each(|batch| solver.update(&Rows::of(batch)).unwrap());
        let both = Tensor::eye(4, (Kind::Double, CPU)).narrow(0, 0, 2);
        assert!(angle(&solver.spectrum().basis, &both) < 0.02, "{name}");
    }
}

#[test]
fn constant_rows_explain_nothing() {
    for (name, mut solver) in solvers(2, 4, true) {
        solver.update(&Rows::of(&Tensor::full([10, 4], 3.0, (Kind::Float, CPU)))).unwrap();
        assert_eq!(solver.spectrum().explained_ratio(), [0.0, 0.0], "{name}");
    }
}

#[test]
fn the_order_of_batches_changes_no_span() {
    tch::manual_seed(8);
    let deviations: Vec<f64> = (0..40).map(|i| 8.0 * 0.6f64.powi(i)).collect();
    let batches: Vec<Tensor> = (0..8).map(|i| rows(100, &deviations, f64::from(i))).collect();
    let pairs = solvers(4, 40, true).into_iter().zip(solvers(4, 40, true));
    for ((name, mut forwards), (_, mut backwards)) in pairs {
        batches.iter().for_each(|batch| forwards.update(&Rows::of(batch)).unwrap());
        batches.iter().rev().for_each(|batch| backwards.update(&Rows::of(batch)).unwrap());
        let angle = angle(&forwards.spectrum().basis, &backwards.spectrum().basis);
        assert!(angle < if name == "incremental" { 6e-2 } else { 1e-3 }, "{name}: {angle}");
    }
}

#[test]
fn float32_products_give_the_directions_of_float64() {
    tch::manual_seed(9);
    let x = rows(2000, &[3.0, 2.5, 2.0, 1.5, 1.0, 0.5], 1.0);
    let mut single = Covariance::new(3, 6, true, End::Leading);
    let mut double = Covariance::new(3, 6, true, End::Leading);
    single.update(&Rows::of(&x)).unwrap();
    double.update(&Rows::of(&x.to_kind(Kind::Double))).unwrap();
    let (single, double) = (single.spectrum(), double.spectrum());
    assert!(angle(&single.basis, &double.basis) < 1e-5);
    let difference = (single.scatter / double.scatter - 1.0).abs().max().double_value(&[]);
    assert!(difference < 1e-5, "{difference}");
}

#[test]
fn the_trailing_end_is_the_complement_of_the_leading_one() {
    tch::manual_seed(10);
    let x = rows(500, &[5.0, 4.0, 2.0, 1.0], 1.0);
    let ends = [End::Leading, End::Minor].map(|end| {
        let mut solver = Covariance::new(2, 4, true, end);
        solver.update(&Rows::of(&x)).unwrap();
        solver.spectrum()
    });
    let between = ends[0].basis.matmul(&ends[1].basis.tr()).abs().max().double_value(&[]);
    assert!(between < 1e-9);
    assert!(ends[1].scatter.max().double_value(&[]) < ends[0].scatter.min().double_value(&[]));
}

#[test]
fn halves_are_the_even_and_the_odd_batches() {
    tch::manual_seed(11);
    let x = rows(400, &[5.0, 3.0, 1.0, 0.1], 1.0);
    for (name, mut solver) in solvers(2, 4, true) {
        for batch in x.split(100, 0) {
            solver.update(&Rows::of(&batch)).unwrap();
        }
        let Some([even, odd]) = solver.spectrum().halves else {
            assert_eq!(name, "incremental");
            continue;
        };
        let part = |start| Tensor::cat(&[x.narrow(0, start, 100), x.narrow(0, start + 200, 100)], 0);
        assert!(angle(&even, &exact(&part(0), 2, true).1) < 1e-3, "{name}");
        assert!(angle(&odd, &exact(&part(100), 2, true).1) < 1e-3, "{name}");
    }
}

#[test]
fn rows_that_are_not_finite_are_refused() {
    for (name, mut solver) in solvers(1, 2, true) {
        for bad in [f32::NAN, f32::INFINITY] {
            let rows = Rows::of(&Tensor::from_slice2(&[[1.0, bad], [2.0, 3.0]]));
            assert!(solver.update(&rows).is_err(), "{name}");
        }
    }
}

#[test]
fn components_are_capped_at_the_width() {
    for (name, mut solver) in solvers(9, 4, true) {
        solver.update(&Rows::of(&rows(20, &[4.0, 3.0, 2.0, 1.0], 0.0))).unwrap();
        assert_eq!(solver.spectrum().basis.size(), [4, 4], "{name}");
    }
}
