//! Incremental principal components, as PEFT computes them, in O(width · components) memory (and for narrow
//! rows one width² matrix during a step).
//!
//! Ross et al. 2008 (sequential Karhunen–Loève), Algorithm 2 of EVA: from the second batch on, the components
//! of `[ diag(S)·V ; X − mean(X) ; √(n·b/(n+b))·(mean_old − mean(X)) ]`, of which all but the first are dropped.

use tch::{Kind, Tensor};

use super::linalg::{canonical_signs, leading_eigenvectors, orthonormal};
use super::moments::{Moments, NotFinite, square_sum};
use super::solver::{Solver, Spectrum};
use crate::tensor::Rows;

/// Up to this width the stacked rows' Gram matrix is decomposed exactly; wider ones are iterated on.
const EXACT_WIDTH: i64 = 192;

/// Rounds of subspace iteration, and columns a component: those of PEFT's `svd_lowrank`.
const ROUNDS: usize = 4;
const COLUMNS: i64 = 2;

/// Leading components of the rows seen so far.
#[derive(Debug)]
pub struct IncrementalPca {
    components: i64,
    centred: bool,
    rows: i64,
    /// Rows that wait until there is one a component: `[N, width]` each.
    waiting: Vec<Tensor>,
    /// `[width]`, f64; zero where components are not centred.
    mean: Tensor,
    /// Sum of squared deviations from the mean.
    total: f64,
    /// `[C]`, f64, descending.
    scatter: Tensor,
    /// `[C, width]`, f64, orthonormal rows.
    basis: Tensor,
}

impl IncrementalPca {
    /// Nothing seen yet; keeps the first `components` of rows of `width` numbers, at most `width`.
    pub fn new(components: i64, width: i64, centred: bool, device: tch::Device) -> Self {
        let components = components.min(width);
        let options = (Kind::Double, device);
        Self {
            components,
            centred,
            rows: 0,
            waiting: Vec::new(),
            mean: Tensor::zeros([width], options),
            total: 0.0,
            scatter: Tensor::zeros([components], options),
            basis: Tensor::zeros([components, width], options),
        }
    }

    /// One step of the algorithm on `x` `[N, width]`, N at least the number of components.
    fn step(&mut self, x: &Tensor) -> Result<(), NotFinite> {
        let (added, width) = x.size2().expect("rows are a matrix");
        let (seen, total) = (self.rows as f64, (self.rows + added) as f64);
        let batch_mean = if self.centred {
            x.mean_dim(0, false, x.kind()).to_kind(Kind::Double) // [width]
        } else {
            self.mean.zeros_like()
        };
        // Taking a rounded mean off in the rows' own precision leaves a mean of its rounding error.
        let deviations = x - batch_mean.to_kind(x.kind()); // [N, width]
        let deviations = Rows::of(&deviations);
        let squares = square_sum(&deviations)?;
        let shift = &self.mean - &batch_mean; // [width]
        let correction = &shift * (seen * added as f64 / total).sqrt(); // [width]
        self.total += squares + correction.dot(&correction).double_value(&[]);
        self.mean = &batch_mean + &shift * (seen / total);
        self.rows += added;

        let known = self.basis.tr() * &self.scatter; // [width, C]
        if width <= EXACT_WIDTH {
            let gram = deviations.gram().0.to_kind(Kind::Double) // [width, width]
                + known.matmul(&self.basis)
                + correction.outer(&correction);
            (self.scatter, self.basis) = leading_eigenvectors(&gram, self.components);
            return Ok(());
        }
        let gram_times = |test: &Tensor| {
            // [width, S] → [width, S], both f64
            let columns = test.tr().contiguous().to_kind(x.kind()); // [S, width]
            let nothing = Tensor::zeros([columns.size()[0]], (x.kind(), x.device()));
            deviations.sketched_gram(&columns, &nothing).tr().to_kind(Kind::Double)
                + known.matmul(&self.basis.matmul(test))
                + correction.outer(&test.tr().mv(&correction))
        };
        let spare = (COLUMNS * self.components).min(width) - self.components;
        let fresh = Tensor::randn([width, spare], (Kind::Double, x.device()));
        let start = if seen == 0.0 { self.basis.tr().randn_like() } else { self.basis.tr() }; // [width, C]
        let mut test = orthonormal(&Tensor::cat(&[start, fresh], 1)); // [width, S]
        for _ in 0..ROUNDS {
            test = orthonormal(&gram_times(&test));
        }
        let (values, vectors) = leading_eigenvectors(&test.tr().matmul(&gram_times(&test)), self.components);
        self.scatter = values;
        self.basis = canonical_signs(&vectors.matmul(&test.tr()));
        Ok(())
    }
}

impl Solver for IncrementalPca {
    fn update(&mut self, rows: &Rows) -> Result<(), NotFinite> {
        self.waiting.push(rows.dense().shallow_clone());
        let waiting: i64 = self.waiting.iter().map(|rows| rows.size()[0]).sum();
        if waiting < self.components {
            return Ok(());
        }
        let x = Tensor::cat(&std::mem::take(&mut self.waiting), 0);
        self.step(&x)
    }

    fn halves(&mut self) -> Option<&mut [Moments; 2]> {
        None
    }

    fn rows(&self) -> i64 {
        self.rows
    }

    fn spectrum(&self) -> Spectrum {
        Spectrum {
            basis: self.basis.shallow_clone(),
            scatter: self.scatter.shallow_clone(),
            total: self.total,
            rows: self.rows,
            halves: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::pca::tests::{angle, exact, rows};

    #[test]
    fn many_batches_lose_only_what_truncation_drops() {
        tch::manual_seed(3);
        let batches: Vec<Tensor> = (0..20).map(|_| rows(60, &[9.0, 5.0, 2.0, 0.1, 0.1, 0.1], -7.0)).collect();
        let mut pca = IncrementalPca::new(3, 6, true, Device::Cpu);
        batches.iter().for_each(|batch| pca.update(&Rows::of(batch)).unwrap());
        let (_, basis) = exact(&Tensor::cat(&batches, 0), 3, true);
        assert!(angle(&pca.spectrum().basis, &basis) < 0.01);
    }

    #[test]
    fn short_batches_wait_until_there_is_a_row_a_component() {
        tch::manual_seed(4);
        let x = rows(9, &[4.0, 2.0, 1.0, 0.5, 0.2], 3.0);
        let mut pca = IncrementalPca::new(4, 5, true, Device::Cpu);
        for batch in x.split(3, 0) {
            pca.update(&Rows::of(&batch)).unwrap();
        }
        assert_eq!(pca.rows(), 6);
        let (_, basis) = exact(&x.narrow(0, 0, 6), 4, true);
        assert!(angle(&pca.spectrum().basis, &basis) < 1e-3);
    }

    #[test]
    fn a_repeated_batch_does_not_turn_the_components() {
        tch::manual_seed(5);
        let x = rows(50, &[4.0, 2.0, 1.0], 0.0);
        let mut pca = IncrementalPca::new(2, 3, true, Device::Cpu);
        pca.update(&Rows::of(&x)).unwrap();
        let before = pca.spectrum().basis;
        pca.update(&Rows::of(&x)).unwrap();
        let cosines = (pca.spectrum().basis * before).sum_dim_intlist(1, false, Kind::Double);
        assert!(cosines.min().double_value(&[]) > 1.0 - 1e-6); // signs too
    }
}
