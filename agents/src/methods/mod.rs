//! Where adapters begin: one file a method, all the same interface; EVA, which shares ranks out over
//! sites, has a module of its own.
//!
//! Decompositions are computed in f64 on the CPU, and given as f32 where the weight is.

mod adalora;
mod begin;
mod corda;
mod gradient;
mod head_only;
mod ipa;
mod lora;
mod lora_ga;
mod lora_one;
mod milora;
mod olora;
mod pissa;

use tch::{Device, Kind, Tensor};

use crate::adapter::{Lora, Rank, Scaling};

pub use adalora::{AdaLora, BadState, RankAllocator, Schedule, orthogonality};
pub use begin::{BeginError, begin};
pub use corda::{CorDa, Mode};
pub use gradient::mean_gradients;
pub use head_only::head_only;
pub use ipa::Ipa;
pub use lora::PlainLora;
pub use lora_ga::LoraGa;
pub use lora_one::LoraOne;
pub use milora::MiLora;
pub use olora::OLora;
pub use pissa::PiSsa;

/// What a method may look at when it places one site's adapter.
#[derive(Debug)]
pub struct Given<'a> {
    /// W: `[out, in]`.
    pub weight: &'a Tensor,
    /// E[x xᵀ] of the site's inputs over the task's data, f64: `[in, in]`; there if the method needs it.
    pub moments: Option<&'a Tensor>,
    /// Mean gradient of the loss with respect to W: `[out, in]`; there if the method needs it.
    pub gradient: Option<&'a Tensor>,
}

/// What a method needs beside the weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// [`Given::moments`].
    Moments,
    /// [`Given::gradient`].
    Gradient,
}

/// Why an adapter cannot be placed.
#[derive(Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // each variant's sentence says what its fields are
pub enum PlaceError {
    #[error("{wanted} directions are wanted, and a map of {input} → {output} has {found}: lower the rank")]
    TooFewDirections { wanted: i64, found: i64, input: i64, output: i64 },

    #[error("what the adapter is to begin from holds NaN or infinity")]
    NotFinite,
}

/// A way to begin that places every site on its own, at the same rank.
pub trait Method {
    /// What the caller must give beside the weight.
    fn needs(&self) -> Needs;

    /// The adapter of one site, trainable.
    fn place(&self, site: &Given, rank: Rank, scaling: Scaling) -> Result<Lora, PlaceError>;
}

/// U `[m, k]`, σ `[k]` (descending) and V `[n, k]` of a `matrix` `[m, n]`, k = min(m, n).
fn svd(matrix: &Tensor) -> Result<(Tensor, Tensor, Tensor), PlaceError> {
    Ok(exact(matrix)?.svd(true, true))
}

/// A finite matrix in f64 on the CPU: `[m, n]`.
fn exact(matrix: &Tensor) -> Result<Tensor, PlaceError> {
    let matrix = matrix.detach().to_device(Device::Cpu).to_kind(Kind::Double);
    if matrix.isfinite().all().int64_value(&[]) == 0 {
        return Err(PlaceError::NotFinite);
    }
    Ok(matrix)
}

/// Refuses a map, `weight` `[out, in]`, that has fewer singular directions than `wanted`.
fn check_directions(weight: &Tensor, wanted: i64) -> Result<(), PlaceError> {
    let (output, input) = weight.size2().expect("a weight is a matrix");
    let found = input.min(output);
    if wanted > found {
        return Err(PlaceError::TooFewDirections { wanted, found, input, output });
    }
    Ok(())
}

/// `U diag(σ) Vᵀ` as A = √σ Vᵀ `[R, in]` and B = U √σ `[out, R]`, from `u` `[out, R]`, `sigma` `[R]` and
/// `v` `[in, R]`.
fn split(u: &Tensor, sigma: &Tensor, v: &Tensor) -> (Tensor, Tensor) {
    let root = sigma.sqrt();
    ((v * &root).tr(), u * root)
}

/// The adapter that takes `rank` neighbouring singular values of the weight off the base, after `skipped` of all.
fn singular_part(
    site: &Given,
    rank: Rank,
    scaling: Scaling,
    skipped: impl FnOnce(i64) -> i64,
) -> Result<Lora, PlaceError> {
    check_directions(site.weight, rank.get())?;
    let (u, sigma, v) = svd(site.weight)?;
    let first = skipped(sigma.size()[0]);
    let [u, sigma, v] = [u, sigma, v].map(|part| part.narrow(-1, first, rank.get()));
    let scale = scaling.scale(rank.get());
    let (down, up) = split(&u, &(sigma / scale), &v);
    Ok(adapter(&down, &up, scale, site.weight).starting_here())
}

/// An adapter with A `[R, in]` and B `[out, R]` as f32 where the `weight` `[out, in]` is.
fn adapter(down: &Tensor, up: &Tensor, scale: f64, weight: &Tensor) -> Lora {
    let [down, up] =
        [down, up].map(|half| half.to_kind(Kind::Float).to_device(weight.device()).contiguous().copy());
    Lora::new(down, up, scale)
}

#[cfg(test)]
pub(crate) mod testing {
    //! What the methods' tests share.

    use super::*;

    pub const SCALING: Scaling = Scaling { alpha: 6.0, rank_stabilised: false };

    pub fn rank(rank: u16) -> Rank {
        Rank::try_from(rank).unwrap()
    }

    /// Numbers in (−1, 1) without a pattern, the same for the same seed.
    pub fn random(shape: [i64; 2], seed: i64) -> Tensor {
        let index = Tensor::arange(shape[0] * shape[1], (Kind::Double, Device::Cpu)) + seed * 1000 + 1;
        let scattered: Tensor = (index * 12.9898).sin() * 43_758.5;
        ((&scattered - scattered.floor()) * 2.0 - 1.0).view(shape).to_kind(Kind::Float)
    }

    /// The share of the adapter's trained part in f64: `[out, in]`.
    pub fn product(lora: &Lora) -> Tensor {
        let [down, up] = [&lora.down, &lora.up].map(|half| half.detach().to_kind(Kind::Double));
        up.matmul(&down) * lora.scale
    }

    /// `matrix` `[m, n]` with singular values `from..to` alone.
    pub fn truncated(matrix: &Tensor, from: i64, to: i64) -> Tensor {
        let (u, sigma, v) = svd(matrix).unwrap();
        let narrow = |tensor: &Tensor| tensor.narrow(-1, from, to - from);
        (narrow(&u) * narrow(&sigma)).matmul(&narrow(&v).tr())
    }

    #[track_caller]
    pub fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f64) {
        let difference = (found - expected).abs().max().double_value(&[]);
        assert!(difference < tolerance, "differs by {difference}");
    }

    #[track_caller]
    pub fn assert_changes_nothing(lora: &Lora) {
        assert_eq!(lora.delta().abs().max().double_value(&[]), 0.0);
        let x = random([7, lora.down.size()[1]], 99);
        assert_eq!(lora.forward(&x).abs().max().double_value(&[]), 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;

    const SHAPES: [[i64; 2]; 3] = [[6, 9], [9, 6], [7, 7]];

    fn check_refused(method: &dyn Method, wanted: i64) {
        let (weight, moments) = (random([3, 8], 1), Tensor::eye(8, (Kind::Double, Device::Cpu)));
        let given = Given { weight: &weight, moments: Some(&moments), gradient: Some(&weight) };
        let error = method.place(&given, rank(4), SCALING).unwrap_err();
        assert_eq!(error, PlaceError::TooFewDirections { wanted, found: 3, input: 8, output: 3 });
    }

    #[test]
    fn a_rank_above_a_map_s_own_is_refused() {
        check_refused(&PiSsa, 4);
        check_refused(&MiLora, 4);
        check_refused(&OLora, 4);
        check_refused(&CorDa { mode: Mode::Preview }, 4);
        check_refused(&LoraGa::default(), 8);
        check_refused(&LoraOne::default(), 4);
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        let weight = random([4, 4], 1);
        let bad = random([4, 4], 1) * f64::NAN;
        let given = Given { weight: &weight, moments: Some(&bad), gradient: Some(&bad) };
        let methods: [&dyn Method; 4] =
            [&CorDa { mode: Mode::Preview }, &LoraGa::default(), &LoraOne::default(), &Ipa { frozen: false }];
        for method in methods {
            assert_eq!(method.place(&given, rank(2), SCALING).unwrap_err(), PlaceError::NotFinite);
        }
    }

    #[test]
    fn every_method_but_lora_one_begins_by_changing_nothing() {
        for shape in SHAPES {
            let (weight, gradient) = (random(shape, 1), random(shape, 2));
            let x = random([40, shape[1]], 3).to_kind(Kind::Double);
            let moments = x.tr().matmul(&x) / 40.0;
            let given = Given { weight: &weight, moments: Some(&moments), gradient: Some(&gradient) };
            let methods: [&dyn Method; 9] = [
                &PlainLora,
                &PiSsa,
                &MiLora,
                &OLora,
                &CorDa { mode: Mode::Preview },
                &CorDa { mode: Mode::Preserve },
                &LoraGa::default(),
                &Ipa { frozen: true },
                &AdaLora,
            ];
            for method in methods {
                let lora = method.place(&given, rank(3), SCALING).unwrap();
                assert_changes_nothing(&lora);
                assert_eq!(lora.merged(&weight), weight);
                assert_eq!((lora.down.size(), lora.up.size()), (vec![3, shape[1]], vec![shape[0], 3]));
            }
            let lora = LoraOne::default().place(&given, rank(3), SCALING).unwrap();
            assert!(lora.start.is_none() && lora.delta().abs().max().double_value(&[]) > 0.0);
        }
    }
}
