//! Incremental principal components of rows that arrive in batches, centred, in constant memory.
//!
//! Ross et al. 2008 (sequential Karhunen–Loève), as PEFT's `IncrementalPCA` computes it: from the
//! second batch on, the components of
//! `[ diag(S)·V ; X − mean(X) ; √(n·b/(n+b))·(mean_old − mean(X)) ]`, all in float64.

use tch::{Kind, Tensor};

/// Leading components of the rows seen so far.
///
/// Memory is O(width · components), beside one width² matrix while an update runs.
#[derive(Debug)]
pub struct IncrementalPca {
    components: i64,
    rows: i64,
    /// `[width]`.
    mean: Tensor,
    /// `[width]`, sum of squared deviations from the mean.
    scatter: Tensor,
    /// `[components]`, descending.
    singular_values: Tensor,
    /// `[components, width]`, orthonormal rows.
    basis: Tensor,
}

impl IncrementalPca {
    /// Nothing seen yet; keeps the first `components` of rows of `width` numbers, at most `width`.
    pub fn new(components: i64, width: i64, device: tch::Device) -> Self {
        let components = components.min(width);
        let options = (Kind::Double, device);
        Self {
            components,
            rows: 0,
            mean: Tensor::zeros([width], options),
            scatter: Tensor::zeros([width], options),
            singular_values: Tensor::zeros([components], options),
            basis: Tensor::zeros([components, width], options),
        }
    }

    /// Components that are kept.
    pub fn components(&self) -> i64 {
        self.components
    }

    /// Rows seen so far.
    pub fn rows(&self) -> i64 {
        self.rows
    }

    /// Takes in `x` `[N, width]` and gives each component's cosine to its predecessor: `[components]`.
    ///
    /// A first update has no predecessors, so its cosines are zero. N must be at least `components`.
    pub fn update(&mut self, x: &Tensor) -> Vec<f64> {
        let (added, _width) = x.size2().expect("rows are a matrix");
        assert!(added >= self.components, "an update needs at least as many rows as components");
        let x = x.to_kind(Kind::Double); // [N, width]
        let batch_mean = x.mean_dim(0, false, Kind::Double); // [width]
        let deviations = &x - &batch_mean; // [N, width]
        let (seen, total) = (self.rows as f64, (self.rows + added) as f64);
        let shift = &self.mean - &batch_mean; // [width]
        let correction = &shift * (seen * added as f64 / total).sqrt(); // [width]

        self.scatter += deviations.square().sum_dim_intlist(0, false, Kind::Double) + correction.square();
        self.mean = &batch_mean + &shift * (seen / total);
        self.rows += added;

        let known = self.singular_values.unsqueeze(1) * &self.basis; // [components, width]
        let stacked = Tensor::cat(&[known, deviations, correction.unsqueeze(0)], 0);
        let (singular_values, basis) = leading_right_vectors(&stacked, self.components);
        let cosines = (&basis * &self.basis).sum_dim_intlist(1, false, Kind::Double);
        self.singular_values = singular_values;
        self.basis = basis;
        Vec::try_from(cosines).expect("cosines are float64")
    }

    /// The components: `[components, width]`, orthonormal rows, most variance first.
    pub fn basis(&self) -> &Tensor {
        &self.basis
    }

    /// Share of the total variance that each component explains: `[components]`.
    pub fn explained_variance_ratio(&self) -> Vec<f64> {
        let total = self.scatter.sum(Kind::Double).double_value(&[]);
        if total <= 0.0 {
            return vec![0.0; self.components as usize]; // constant rows have no variance to explain
        }
        Vec::try_from(self.singular_values.square() / total).expect("ratios are float64")
    }
}

/// The `count` leading singular values `[count]` and right singular vectors `[count, width]` of `y`
/// `[M, width]`, each vector's largest entry positive.
///
/// A tall matrix is solved through its Gram matrix, which costs one product and a small
/// eigendecomposition; float64 leaves the leading vectors exact to 1e-8 there.
fn leading_right_vectors(y: &Tensor, count: i64) -> (Tensor, Tensor) {
    let (rows, width) = y.size2().expect("a matrix");
    let (singular_values, vectors) = if rows >= width {
        let (eigenvalues, vectors) = y.tr().matmul(y).linalg_eigh("L"); // ascending
        let largest = eigenvalues.narrow(0, width - count, count).flip([0]);
        (largest.clamp_min(0.0).sqrt(), vectors.narrow(1, width - count, count).flip([1]).tr())
    } else {
        let (_, singular_values, vectors) = y.svd(true, true); // vectors are columns
        (singular_values.narrow(0, 0, count), vectors.narrow(1, 0, count).tr())
    };
    let (_, peak) = vectors.abs().max_dim(1, true); // [count, 1]
    let signs = vectors.gather(1, &peak, false).sign(); // [count, 1]
    (singular_values, vectors * signs)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// Rows whose i-th coordinate has deviation `deviations[i]`, shifted far from the origin.
    fn rows(count: i64, deviations: &[f64], offset: f64) -> Tensor {
        let width = deviations.len() as i64;
        let noise = Tensor::randn([count, width], (Kind::Double, Device::Cpu));
        noise * Tensor::from_slice(deviations) + offset
    }

    #[track_caller]
    fn check_against_svd(batches: &[Tensor], components: i64, tolerance: f64) {
        let width = batches[0].size()[1];
        let mut pca = IncrementalPca::new(components, width, Device::Cpu);
        for batch in batches {
            pca.update(batch);
        }
        let all = Tensor::cat(batches, 0);
        let centred = &all - all.mean_dim(0, true, Kind::Double);
        let (_, singular_values, vectors) = centred.svd(true, true);
        let total = centred.square().sum(Kind::Double);
        let expected: Vec<f64> = Vec::try_from(singular_values.square() / total).unwrap();
        for (found, expected) in pca.explained_variance_ratio().iter().zip(&expected) {
            assert!((found - expected).abs() < tolerance, "ratio {found}, expected {expected}");
        }
        let cosines =
            (pca.basis() * vectors.narrow(1, 0, components).tr()).sum_dim_intlist(1, false, Kind::Double);
        let worst = cosines.abs().min().double_value(&[]);
        assert!(worst > 1.0 - tolerance, "worst cosine {worst}");
    }

    #[test]
    fn one_batch_gives_the_exact_components() {
        tch::manual_seed(1);
        check_against_svd(&[rows(200, &[9.0, 5.0, 2.0, 1.0, 0.5], 3.0)], 3, 1e-9);
    }

    #[test]
    fn a_wide_first_batch_gives_the_exact_components() {
        tch::manual_seed(2);
        let deviations: Vec<f64> = (0..40).map(|i| 10.0 * 0.7f64.powi(i)).collect();
        check_against_svd(&[rows(12, &deviations, 0.0)], 4, 1e-9);
    }

    #[test]
    fn many_batches_lose_only_what_truncation_drops() {
        tch::manual_seed(3);
        let batches: Vec<Tensor> = (0..20).map(|_| rows(60, &[9.0, 5.0, 2.0, 0.1, 0.1, 0.1], -7.0)).collect();
        check_against_svd(&batches, 3, 1e-3);
    }

    #[test]
    fn keeping_every_component_is_exact_over_batches_with_moving_means() {
        tch::manual_seed(4);
        let batches: Vec<Tensor> = (0..8).map(|i| rows(30, &[3.0, 2.0, 1.0], 100.0 * f64::from(i))).collect();
        check_against_svd(&batches, 3, 1e-8);
    }

    #[test]
    fn constant_rows_explain_nothing() {
        let mut pca = IncrementalPca::new(2, 4, Device::Cpu);
        pca.update(&Tensor::ones([10, 4], (Kind::Float, Device::Cpu)));
        assert_eq!(pca.explained_variance_ratio(), [0.0, 0.0]);
    }

    #[test]
    fn components_are_capped_at_the_width() {
        assert_eq!(IncrementalPca::new(9, 4, Device::Cpu).components(), 4);
    }

    #[test]
    fn a_repeated_batch_does_not_turn_the_components() {
        tch::manual_seed(5);
        let x = rows(50, &[4.0, 2.0, 1.0], 0.0);
        let mut pca = IncrementalPca::new(2, 3, Device::Cpu);
        assert_eq!(pca.update(&x), [0.0, 0.0]);
        for cosine in pca.update(&x) {
            assert!(cosine > 1.0 - 1e-9);
        }
    }
}
