//! Leading directions of rows that arrive in batches: three solvers that keep no batch.
//!
//! | solver | what it keeps | what it gives |
//! |---|---|---|
//! | [`Covariance`] | one width × width matrix a half of the data | the exact directions of all rows |
//! | [`NystromSketch`] | one components × width matrix a half | nearly those, at a fraction of the products |
//! | [`IncrementalPca`] | the components | PEFT's directions, which forget what they truncate |

mod covariance;
mod incremental;
mod linalg;
mod moments;
mod nystrom;
mod solver;
mod split_moments;
#[cfg(test)]
mod tests;

pub use covariance::{Covariance, End};
pub use incremental::IncrementalPca;
pub(crate) use linalg::orthonormal;
pub use moments::{Moments, NotFinite};
pub use nystrom::NystromSketch;
pub use solver::{Solver, Spectrum};
