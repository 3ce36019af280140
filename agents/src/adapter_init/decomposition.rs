//! Decompositions in f64 on the CPU, and adapters made of their parts, as f32 where the weight is.

use tch::{Device, Kind, Tensor};

use crate::adapter::{Lora, LoraOptions};

/// Why one module's adapter cannot be initialised.
#[derive(Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // each variant's sentence says what its fields are
pub enum SiteError {
    #[error("a module of {input} → {output} has {found} components, expected {wanted}: lower the rank")]
    TooFewComponents { wanted: i64, found: i64, input: i64, output: i64 },

    #[error("what the adapter is initialised from holds NaN or infinity")]
    NotFinite,
}

/// U `[m, k]`, σ `[k]` (descending) and V `[n, k]` of a `matrix` `[m, n]`, k = min(m, n).
pub(super) fn svd(matrix: &Tensor) -> Result<(Tensor, Tensor, Tensor), SiteError> {
    Ok(exact(matrix)?.svd(true, true))
}

/// A finite matrix in f64 on the CPU: `[m, n]`.
pub(super) fn exact(matrix: &Tensor) -> Result<Tensor, SiteError> {
    let matrix = matrix.detach().to_device(Device::Cpu).to_kind(Kind::Double);
    if matrix.isfinite().all().int64_value(&[]) == 0 {
        return Err(SiteError::NotFinite);
    }
    Ok(matrix)
}

/// Refuses a map, `weight` `[out, in]`, that has fewer singular directions than `wanted`.
pub(super) fn check_components(weight: &Tensor, wanted: i64) -> Result<(), SiteError> {
    let (output, input) = weight.size2().expect("a weight is a matrix");
    let found = input.min(output);
    if wanted > found {
        return Err(SiteError::TooFewComponents { wanted, found, input, output });
    }
    Ok(())
}

/// `U diag(σ) Vᵀ` as A = √σ Vᵀ `[R, in]` and B = U √σ `[out, R]`, from `u` `[out, R]`, `sigma` `[R]` and
/// `v` `[in, R]`.
pub(super) fn split(u: &Tensor, sigma: &Tensor, v: &Tensor) -> (Tensor, Tensor) {
    let root = sigma.sqrt();
    ((v * &root).tr(), u * root)
}

/// The adapter of `lora.rank` neighbouring singular values of the `weight` `[out, in]`, after `skipped` of all; it is
/// taken off the base.
pub(super) fn singular_part(
    weight: &Tensor,
    lora: &LoraOptions,
    skipped: impl FnOnce(i64) -> i64,
) -> Result<Lora, SiteError> {
    let rank = lora.rank.get();
    check_components(weight, rank)?;
    let (u, sigma, v) = svd(weight)?;
    let first = skipped(sigma.size()[0]);
    let [u, sigma, v] = [u, sigma, v].map(|part| part.narrow(-1, first, rank));
    let (down, up) = split(&u, &(sigma / lora.scale()), &v);
    Ok(adapter(&down, &up, lora.scale(), weight).subtract_init())
}

/// An adapter with A `[R, in]` and B `[out, R]` as f32 where the `weight` `[out, in]` is.
pub(super) fn adapter(down: &Tensor, up: &Tensor, scale: f64, weight: &Tensor) -> Lora {
    let [down, up] =
        [down, up].map(|half| half.to_kind(Kind::Float).to_device(weight.device()).contiguous().copy());
    Lora::new(down, up, scale)
}
