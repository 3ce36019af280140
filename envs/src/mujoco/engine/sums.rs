//! Sums in NumPy's order, so that a reward has Gymnasium's last bit.

use std::ops::{Add, Mul};

/// The sum of some squares: eight running sums, and what is left over after them. NumPy does so up to
/// 128 numbers, which no model of Gymnasium's exceeds.
pub(in crate::mujoco) fn sum_of_squares<T>(mut values: impl ExactSizeIterator<Item = T>) -> T
where
    T: Copy + Default + Add<Output = T> + Mul<Output = T>,
{
    let mut sums = [T::default(); 8];
    for _ in 0..values.len() / 8 {
        for (sum, value) in sums.iter_mut().zip(&mut values) {
            *sum = *sum + value * value;
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    let sum = ((a + b) + (c + d)) + ((e + f) + (g + h));
    values.fold(sum, |sum, value| sum + value * value)
}
