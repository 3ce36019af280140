//! What the streaming solvers keep of rows: how many, their sum, their squares, and products with them.

use tch::{Kind, Tensor};

use super::{NotFinite, Rows};

/// A mean whose square is so many times the variance is taken off the rows before they are multiplied;
/// a smaller one costs fewer digits than float32 products lose anyway.
const FAR: f64 = 10.0;

/// What rows are summed about: `[width]`, their mean if it lies far from zero; nothing otherwise.
pub(super) fn shift_for(rows: &Rows) -> Result<Option<Tensor>, NotFinite> {
    let (count, _) = rows.shape();
    let mean = rows.dense().mean_dim(0, false, rows.dense().kind()); // [width]
    let far = mean.square().sum(Kind::Double).double_value(&[]);
    let variance = square_sum(rows)? / count as f64 - far;
    Ok((far > FAR * variance).then_some(mean))
}

/// Σ ‖x‖², which is finite only if every number is.
pub(super) fn square_sum(rows: &Rows) -> Result<f64, NotFinite> {
    let flat = rows.dense().flatten(0, -1);
    let squares = flat.dot(&flat).double_value(&[]);
    if squares.is_finite() { Ok(squares) } else { Err(NotFinite) }
}

/// A thin matrix Ω `[width, S]` that rows are multiplied by.
#[derive(Debug)]
pub(super) struct TestMatrix {
    /// Ωᵀ and below it a row of zeros: `[S + 1, width]`.
    weight: Tensor,
    /// Zeros and at last a one, so that the last product is that of a column of ones: `[S + 1]`.
    bias: Tensor,
}

impl TestMatrix {
    /// From Ωᵀ `[S, width]`.
    pub fn new(transposed: &Tensor) -> Self {
        let (columns, _) = transposed.size2().expect("a test matrix");
        let weight = Tensor::cat(&[transposed, &transposed.narrow(0, 0, 1).zeros_like()], 0);
        let bias = Tensor::zeros([columns + 1], (transposed.kind(), transposed.device()));
        let _ = bias.narrow(0, columns, 1).fill_(1.0);
        Self { weight, bias }
    }

    /// Ωᵀ in float64: `[S, width]`.
    pub fn exact(&self) -> Tensor {
        let (rows, _) = self.weight.size2().expect("a test matrix");
        self.weight.narrow(0, 0, rows - 1).to_kind(Kind::Double)
    }
}

/// Sums over rows x, and over z = x Ω for a test matrix Ω `[width, S]` (the identity in [`super::Gram`]).
#[derive(Debug)]
pub(super) struct Sums {
    pub rows: i64,
    /// Σ x: `[width]`, f64.
    pub sum: Tensor,
    /// Σ ‖x‖².
    pub squares: f64,
    /// Σ z xᵀ: `[S, width]`, f64.
    pub products: Tensor,
}

impl Sums {
    pub fn zero(test_columns: i64, width: i64, device: tch::Device) -> Self {
        let options = (Kind::Double, device);
        Self {
            rows: 0,
            sum: Tensor::zeros([width], options),
            squares: 0.0,
            products: Tensor::zeros([test_columns, width], options),
        }
    }

    /// Takes in rows whose every product is kept.
    pub fn add(&mut self, rows: &Rows) -> Result<(), NotFinite> {
        let (products, sum) = rows.gram(); // [width, width], [width]
        let squares = products.diagonal(0, 0, 1).sum(Kind::Double).double_value(&[]);
        if !squares.is_finite() {
            return Err(NotFinite);
        }
        self.rows += rows.shape().0;
        self.squares += squares;
        self.sum += sum;
        self.products += products;
        Ok(())
    }

    /// Takes in rows by their products with a test matrix.
    pub fn add_sketched(&mut self, rows: &Rows, test: &TestMatrix) -> Result<(), NotFinite> {
        let squares = square_sum(rows)?;
        self.rows += rows.shape().0;
        self.squares += squares;
        let products = rows.sketched_gram(&test.weight, &test.bias); // [S + 1, width]
        let columns = self.products.size()[0];
        self.products += products.narrow(0, 0, columns);
        self.sum += products.get(columns);
        Ok(())
    }

    /// The sums over both's rows.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            sum: &self.sum + &other.sum,
            squares: self.squares + other.squares,
            products: &self.products + &other.products,
        }
    }

    /// Σ (z − z̄)(x − x̄)ᵀ and Σ ‖x − x̄‖², where z̄ = x̄ Ω and `test` is Ωᵀ `[S, width]`: `[S, width]`.
    pub fn about_the_mean(&self, test: Option<&Tensor>) -> (Tensor, f64) {
        let rows = self.rows as f64;
        let sketched = test.map_or_else(|| self.sum.shallow_clone(), |test| test.mv(&self.sum)); // [S]
        let products = &self.products - sketched.outer(&self.sum) / rows;
        let squares = self.squares - self.sum.dot(&self.sum).double_value(&[]) / rows;
        (products, squares.max(0.0))
    }
}
