//! What the methods' tests share.

use tch::{Device, Kind, Tensor};

use super::decomposition::svd;
use crate::adapter::{Lora, LoraOptions, Rank};

/// Adapters of this rank, with an alpha of 6.
pub fn size(rank: u16) -> LoraOptions {
    LoraOptions { alpha: 6.0, ..LoraOptions::new(self::rank(rank)) }
}

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
