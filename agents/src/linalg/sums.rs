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

    /// Takes in rows; `test` is Ω, by its transpose `[S, width]`.
    pub fn add(&mut self, rows: &Rows, test: Option<&Tensor>) -> Result<(), NotFinite> {
        let squares = square_sum(rows)?;
        let (count, _) = rows.shape();
        self.rows += count;
        self.squares += squares;
        let Some(test) = test else {
            self.sum += rows.dense().sum_dim_intlist(0, false, rows.dense().kind()).to_kind(Kind::Double);
            self.products += rows.gram().to_kind(Kind::Double);
            return Ok(());
        };
        // A last column of ones gives the sum in the same product.
        let columns = test.size()[0];
        let weight = Tensor::cat(&[test, &test.narrow(0, 0, 1).zeros_like()], 0); // [S + 1, width]
        let bias = Tensor::zeros([columns + 1], (test.kind(), test.device()));
        let _ = bias.narrow(0, columns, 1).fill_(1.0);
        let products = rows.sketched_gram(&weight, &bias).to_kind(Kind::Double); // [S + 1, width]
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
