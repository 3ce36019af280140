//! What the streaming solvers keep of rows: how many, their sum, their squares, and products with them.

use tch::{Device, Kind, Tensor};

use crate::tensor::Rows;

/// Rows hold NaN or infinity.
#[derive(Debug, thiserror::Error)]
#[error("rows hold NaN or infinity")]
pub struct NotFinite;

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

    /// S.
    fn columns(&self) -> i64 {
        self.weight.size()[0] - 1
    }

    /// Ωᵀ in float64: `[S, width]`.
    pub fn exact(&self) -> Tensor {
        self.weight.narrow(0, 0, self.columns()).to_kind(Kind::Double)
    }

    /// The same; shares storage.
    fn shallow_clone(&self) -> Self {
        Self { weight: self.weight.shallow_clone(), bias: self.bias.shallow_clone() }
    }
}

/// Moments over rows x about a fixed point, and over z = x Ω for a test matrix Ω.
#[derive(Debug)]
pub struct Moments {
    /// The point: `[width]`; zero where absent.
    shift: Option<Tensor>,
    /// Ω `[width, S]`; the identity where absent.
    test: Option<TestMatrix>,
    rows: i64,
    /// Σ x: `[width]`, f64.
    sum: Tensor,
    /// Σ ‖x‖².
    squares: f64,
    /// Σ z xᵀ: `[S, width]`, f64.
    products: Tensor,
}

impl Moments {
    /// Over no rows yet, about `shift` `[width]`; rows will be like these.
    pub(super) fn zero(rows: &Rows, shift: Option<Tensor>, test: Option<TestMatrix>) -> Self {
        let ((_, width), options) = (rows.shape(), (Kind::Double, rows.dense().device()));
        let columns = test.as_ref().map_or(width, TestMatrix::columns);
        Self {
            shift,
            test,
            rows: 0,
            sum: Tensor::zeros([width], options),
            squares: 0.0,
            products: Tensor::zeros([columns, width], options),
        }
    }

    /// The same, to add other rows to.
    pub(super) fn copy(&self) -> Self {
        Self {
            shift: self.shift.as_ref().map(Tensor::shallow_clone),
            test: self.test.as_ref().map(TestMatrix::shallow_clone),
            rows: self.rows,
            sum: self.sum.copy(),
            squares: self.squares,
            products: self.products.copy(),
        }
    }

    /// How many rows.
    pub fn rows(&self) -> i64 {
        self.rows
    }

    /// Takes in rows, or nothing where one of their numbers is not finite.
    pub fn add(&mut self, rows: &Rows) -> Result<(), NotFinite> {
        match &self.shift {
            None => self.add_shifted(rows),
            Some(shift) => self.add_shifted(&Rows::of(&(rows.dense() - shift))),
        }
    }

    fn add_shifted(&mut self, rows: &Rows) -> Result<(), NotFinite> {
        let (products, sum, squares) = match &self.test {
            None => {
                let (products, sum) = rows.gram(); // [width, width], [width]
                let squares = products.diagonal(0, 0, 1).sum(Kind::Double).double_value(&[]);
                (products, sum, squares)
            }
            Some(test) => {
                let columns = test.columns();
                let products = rows.sketched_gram(&test.weight, &test.bias); // [S + 1, width]
                (products.narrow(0, 0, columns), products.get(columns), square_sum(rows)?)
            }
        };
        if !squares.is_finite() {
            return Err(NotFinite);
        }
        self.rows += rows.shape().0;
        self.squares += squares;
        self.sum += sum;
        self.products += products;
        Ok(())
    }

    /// No rows yet, about the same point.
    pub(super) fn cleared(&self) -> Self {
        let mut cleared = self.copy();
        (cleared.rows, cleared.squares) = (0, 0.0);
        let _ = (cleared.sum.zero_(), cleared.products.zero_());
        cleared
    }

    /// The sums as numbers.
    pub(super) fn numbers(&self) -> Vec<f64> {
        let flat = |x: &Tensor| {
            Vec::<f64>::try_from(x.to_device(Device::Cpu).flatten(0, -1)).expect("sums are float64")
        };
        [vec![self.rows as f64, self.squares], flat(&self.sum), flat(&self.products)].concat()
    }

    /// Takes the sums from numbers that [`Moments::numbers`] has the places of.
    pub(super) fn set_numbers(&mut self, numbers: &[f64]) {
        let (facts, rest) = numbers.split_at(2);
        let (sum, products) = rest.split_at(self.sum.numel());
        (self.rows, self.squares) = (facts[0] as i64, facts[1]);
        self.sum.copy_(&Tensor::from_slice(sum));
        self.products.copy_(&Tensor::from_slice(products).view_as(&self.products));
    }

    /// The sums over both's rows, which are about the same point.
    pub(super) fn plus(&self, other: &Self) -> Self {
        let mut both = self.copy();
        both.rows += other.rows;
        both.sum += &other.sum;
        both.squares += other.squares;
        both.products += &other.products;
        both
    }

    /// Σ z xᵀ and Σ ‖x‖², about the rows' mean if `centred`: `[S, width]`.
    pub(super) fn scatter(&self, centred: bool) -> (Tensor, f64) {
        if !centred {
            return (self.products.shallow_clone(), self.squares);
        }
        let rows = self.rows as f64;
        let sketched = match &self.test {
            None => self.sum.shallow_clone(),
            Some(test) => test.exact().mv(&self.sum), // [S]
        };
        let products = &self.products - sketched.outer(&self.sum) / rows;
        let squares = self.squares - self.sum.dot(&self.sum).double_value(&[]) / rows;
        (products, squares.max(0.0))
    }

    /// Ωᵀ in float64: `[S, width]`.
    pub(super) fn test(&self) -> Tensor {
        self.test.as_ref().expect("a sketch has a test matrix").exact()
    }
}
