//! Low-rank adapters (LoRA, arXiv 2106.09685): `h = W x + s·B A x`, and the set of them that a pass carries.

mod peft;

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::site::Site;

pub use peft::{AdapterError, AdapterFolder, Origin};

/// Rank of one adapter; never zero, because a site of rank zero has no adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Rank(NonZeroU16);

/// A rank of zero was asked for.
#[derive(Debug, thiserror::Error)]
#[error("an adapter rank must be at least 1")]
pub struct ZeroRank;

impl Rank {
    /// The rank as a tensor size.
    pub fn get(self) -> i64 {
        i64::from(self.0.get())
    }
}

impl TryFrom<u16> for Rank {
    type Error = ZeroRank;

    fn try_from(rank: u16) -> Result<Self, ZeroRank> {
        NonZeroU16::new(rank).map(Self).ok_or(ZeroRank)
    }
}

impl From<Rank> for u16 {
    fn from(rank: Rank) -> Self {
        rank.0.get()
    }
}

/// The adapter of one site: A and B of the LoRA paper, and the scale of their product.
#[derive(Debug)]
pub struct Lora {
    /// A: `[R, in]`.
    pub down: Tensor,
    /// B: `[out, R]`.
    pub up: Tensor,
    /// What the product is multiplied by, `alpha / R`.
    pub scale: f64,
}

impl Lora {
    /// The adapter's share of the output: `[…, in]` → `[…, out]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.down, None::<Tensor>).linear(&self.up, None::<Tensor>) * self.scale
    }

    /// `scale · B A`: `[out, in]`.
    pub fn delta(&self) -> Tensor {
        self.up.matmul(&self.down) * self.scale
    }

    /// Rows of A.
    pub fn rank(&self) -> i64 {
        self.down.size()[0]
    }
}

/// The adapters of a policy: at most one a site.
#[derive(Debug, Default)]
pub struct AdapterSet {
    /// Sites that have an adapter.
    pub sites: BTreeMap<Site, Lora>,
    /// Probability that an adapter's input is zeroed in training.
    pub dropout: f64,
}

impl AdapterSet {
    /// The adapter of `site`, if it has one.
    pub fn get(&self, site: Site) -> Option<&Lora> {
        self.sites.get(&site)
    }

    /// What training changes, by PEFT's names; shares storage with the set.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        let mut parameters = Vec::with_capacity(2 * self.sites.len());
        for (site, lora) in &self.sites {
            parameters.push((format!("{site}.lora_A.weight"), lora.down.shallow_clone()));
            parameters.push((format!("{site}.lora_B.weight"), lora.up.shallow_clone()));
        }
        parameters
    }

    /// Numbers that training changes.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().map(|(_, tensor)| tensor.numel()).sum()
    }
}

/// Plain LoRA at one site: A uniform within ±1/√in (Kaiming, a = √5), B zero.
pub fn lora(input: i64, output: i64, rank: Rank, alpha: f64, device: tch::Device) -> Lora {
    let bound = 1.0 / (input as f64).sqrt();
    let down = Tensor::empty([rank.get(), input], (Kind::Float, device)).uniform_(-bound, bound);
    placed(down, output, alpha / rank.get() as f64)
}

/// An adapter with the given A `[R, in]`, B zero, and both trainable.
pub fn placed(down: Tensor, output: i64, scale: f64) -> Lora {
    let rank = down.size()[0];
    let up = Tensor::zeros([output, rank], (Kind::Float, down.device()));
    Lora { down: down.set_requires_grad(true), up: up.set_requires_grad(true), scale }
}
