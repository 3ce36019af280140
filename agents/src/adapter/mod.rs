//! Low-rank adapters (LoRA, arXiv 2106.09685): `h = W x + s·B A x`, and the set of them that a pass carries.

mod peft;
mod rules;

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::site::Site;

pub use peft::{AdapterError, AdapterFolder, Origin, fingerprint};

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
    /// What the product is multiplied by: `alpha / R`, or `alpha / √R` under rsLoRA.
    pub scale: f64,
    /// DoRA's m (arXiv 2402.09353, Eq. 5), the norm of each row of the adapted map: `[out]`.
    pub magnitude: Option<Tensor>,
}

impl Lora {
    /// The low-rank share of the output: `[…, in]` → `[…, out]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.down, None::<Tensor>).linear(&self.up, None::<Tensor>) * self.scale
    }

    /// `m / ‖W + s·B A‖` a row, by which DoRA multiplies the adapted map: `weight` `[out, in]` → `[out]`.
    ///
    /// The norm counts as a constant in the backward pass (section 4.3 of the paper).
    pub fn magnitude_ratio(&self, weight: &Tensor) -> Option<Tensor> {
        let magnitude = self.magnitude.as_ref()?;
        Some(magnitude / row_norms(&(weight + self.delta())).detach())
    }

    /// `scale · B A`: `[out, in]`.
    pub fn delta(&self) -> Tensor {
        self.up.matmul(&self.down) * self.scale
    }

    /// The map with the adapter folded in, computed in f64: `weight` `[out, in]` → `[out, in]` of f32.
    pub fn merged(&self, weight: &Tensor) -> Tensor {
        let [down, up] = [&self.down, &self.up].map(|half| half.detach().to_kind(Kind::Double));
        let sum = weight.to_kind(Kind::Double) + up.matmul(&down) * self.scale; // [out, in]
        let merged = match &self.magnitude {
            None => sum,
            Some(magnitude) => {
                let ratio = magnitude.detach().to_kind(Kind::Double) / row_norms(&sum); // [out]
                sum * ratio.unsqueeze(-1)
            }
        };
        merged.to_kind(Kind::Float)
    }

    /// Rows of A.
    pub fn rank(&self) -> i64 {
        self.down.size()[0]
    }
}

/// Euclidean norm of each row: `[out, in]` → `[out]`.
pub fn row_norms(weight: &Tensor) -> Tensor {
    weight.norm_scalaropt_dim(2, [1i64], false)
}

/// The adapters of a policy: at most one a site.
#[derive(Debug, Default)]
pub struct AdapterSet {
    /// Sites that have an adapter.
    pub sites: BTreeMap<Site, Lora>,
    /// Probability that an adapter's input is zeroed in training.
    pub dropout: f64,
    /// Tensors that stand in for the policy's own of the same name: PEFT's `modules_to_save` and biases.
    pub replaced: BTreeMap<String, Tensor>,
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
            if let Some(magnitude) = &lora.magnitude {
                parameters.push((format!("{site}.lora_magnitude_vector"), magnitude.shallow_clone()));
            }
        }
        parameters
    }

    /// Numbers that training changes.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().map(|(_, tensor)| tensor.numel()).sum()
    }
}

/// How the product of A and B is scaled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// LoRA's alpha.
    pub alpha: f64,
    /// Whether it is divided by √R (rsLoRA, arXiv 2312.03732) rather than by R.
    pub rank_stabilised: bool,
}

impl Scaling {
    /// The scale of an adapter of this rank.
    pub fn scale(self, rank: i64) -> f64 {
        self.alpha / self.divisor(rank)
    }

    /// The alpha that gives an adapter of this rank this scale.
    fn alpha_of(self, scale: f64, rank: i64) -> f64 {
        scale * self.divisor(rank)
    }

    fn divisor(self, rank: i64) -> f64 {
        if self.rank_stabilised { (rank as f64).sqrt() } else { rank as f64 }
    }
}

/// Plain LoRA at one site: A uniform within ±1/√in (Kaiming, a = √5), B zero.
pub fn lora(input: i64, output: i64, rank: Rank, scaling: Scaling, device: tch::Device) -> Lora {
    let bound = 1.0 / (input as f64).sqrt();
    let down = Tensor::empty([rank.get(), input], (Kind::Float, device)).uniform_(-bound, bound);
    placed(down, output, scaling.scale(rank.get()))
}

/// An adapter with the given A `[R, in]`, B zero, and both trainable.
pub fn placed(down: Tensor, output: i64, scale: f64) -> Lora {
    let rank = down.size()[0];
    let up = Tensor::zeros([output, rank], (Kind::Float, down.device()));
    Lora { down: down.set_requires_grad(true), up: up.set_requires_grad(true), scale, magnitude: None }
}
