//! The adapter of one module: LoRA's A and B, and what DoRA, AdaLoRA and other initialisations add to them.

use std::num::NonZeroU16;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Rank of one adapter; never zero, because a site of rank zero has no adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u16", into = "u16")]
#[schemars(with = "NonZeroU16")]
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
///
/// What it adds to the map is `scale · (B diag(Λ) A − B₀ A₀)`.
#[derive(Debug)]
pub struct Lora {
    /// A: `[R, in]`; not trained where it does not require a gradient.
    pub down: Tensor,
    /// B: `[out, R]`.
    pub up: Tensor,
    /// What the product is multiplied by: `alpha / R`, or `alpha / √R` under rsLoRA.
    pub scale: f64,
    /// DoRA's m (arXiv 2402.09353, Eq. 5), the norm of each row of the adapted map: `[out]`.
    pub magnitude: Option<Tensor>,
    /// AdaLoRA's Λ (arXiv 2303.10512, Eq. 3), the gain of each row of A: `[R]`.
    pub singular_values: Option<Tensor>,
    /// A₀ `[R, in]` and B₀ `[out, R]`, frozen, of a method that is not initialised at zero; their product is
    /// taken off the base, which itself stays untouched.
    pub frozen_init: Option<(Tensor, Tensor)>,
}

impl Lora {
    /// An adapter with this A `[R, in]` and B `[out, R]`, both trainable.
    pub fn new(down: Tensor, up: Tensor, scale: f64) -> Self {
        // Laid out as a checkpoint gives them back: products over another layout round otherwise, and a resumed run is to
        // have the same bits.
        let [down, up] = [down, up].map(|half| half.detach().contiguous().copy().set_requires_grad(true));
        Self { down, up, scale, magnitude: None, singular_values: None, frozen_init: None }
    }

    /// The same adapter, with what it adds now taken off the base, so that it begins by changing nothing.
    pub fn subtract_init(self) -> Self {
        let init = (self.down.detach().copy(), self.up.detach().copy());
        Self { frozen_init: Some(init), ..self }
    }

    /// The same adapter in another precision, through which gradients reach this one's tensors.
    pub fn to_kind(&self, kind: Kind) -> Self {
        let cast = |x: &Tensor| x.to_kind(kind);
        Self {
            down: cast(&self.down),
            up: cast(&self.up),
            scale: self.scale,
            magnitude: self.magnitude.as_ref().map(cast),
            singular_values: self.singular_values.as_ref().map(cast),
            frozen_init: self.frozen_init.as_ref().map(|(down, up)| (cast(down), cast(up))),
        }
    }

    /// The low-rank share of the output: `[…, in]` → `[…, out]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let through = |down: &Tensor, up: &Tensor| x.linear(down, None::<Tensor>).linear(up, None::<Tensor>);
        let share = through(&self.weighted_down(), &self.up);
        // Two products of the same shapes cancel to the last bit while A and B are where they began.
        let share = match &self.frozen_init {
            None => share,
            Some((down, up)) => share - through(down, up),
        };
        share * self.scale
    }

    /// `m / ‖W + s·B A‖` a row, by which DoRA multiplies the adapted map: `weight` `[out, in]` → `[out]`.
    ///
    /// The norm counts as a constant in the backward pass (section 4.3 of the paper).
    pub fn magnitude_ratio(&self, weight: &Tensor) -> Option<Tensor> {
        self.magnitude.as_ref()?; // without one the sum is not needed
        self.ratio_of(&(weight + self.delta()))
    }

    /// The same of the adapted map itself: `sum` `[out, in]` → `[out]`.
    fn ratio_of(&self, sum: &Tensor) -> Option<Tensor> {
        Some(self.magnitude.as_ref()? / row_norms(sum).detach())
    }

    /// The map with the adapter folded in, and DoRA's ratio of its rows: `weight` `[out, in]` → `[out, in]`,
    /// `[out]`.
    pub fn folded_into(&self, weight: &Tensor) -> (Tensor, Option<Tensor>) {
        let sum = weight + self.delta(); // [out, in]
        match self.ratio_of(&sum) {
            None => (sum, None),
            Some(ratio) => (sum * ratio.unsqueeze(-1), Some(ratio)),
        }
    }

    /// What is added to the map: `[out, in]`.
    pub fn delta(&self) -> Tensor {
        self.product(Kind::Float) * self.scale
    }

    /// The map with the adapter folded in, computed in f64: `weight` `[out, in]` → `[out, in]` of f32.
    pub fn merged(&self, weight: &Tensor) -> Tensor {
        let sum = weight.to_kind(Kind::Double) + self.product(Kind::Double).detach() * self.scale; // [out, in]
        let merged = match &self.magnitude {
            None => sum,
            Some(magnitude) => {
                let ratio = magnitude.detach().to_kind(Kind::Double) / row_norms(&sum); // [out]
                sum * ratio.unsqueeze(-1)
            }
        };
        merged.to_kind(Kind::Float)
    }

    /// The same share from A and B alone, as files hold it: rows without gain are left out, and a start
    /// becomes further rows of A and columns of B.
    ///
    /// Where no row has any gain the first stays, because a rank is never zero.
    pub(super) fn to_peft_lora(&self) -> Self {
        let (mut down, mut up) = (self.weighted_down().detach(), self.up.detach());
        if let Some(values) = &self.singular_values {
            let mut kept = values.nonzero().squeeze_dim(-1); // [kept]
            if kept.numel() == 0 {
                kept = Tensor::zeros([1], (Kind::Int64, values.device()));
            }
            (down, up) = (down.index_select(0, &kept), up.index_select(1, &kept));
        }
        if let Some((first_down, first_up)) = &self.frozen_init {
            down = Tensor::cat(&[&down, first_down], 0); // [2·R, in]
            up = Tensor::cat(&[up, -first_up], 1); // [out, 2·R]
        }
        let magnitude = self.magnitude.as_ref().map(Tensor::shallow_clone);
        Self { magnitude, ..Self::new(down, up, self.scale) }
    }

    /// Whether it changes its map: not where every gain is zero.
    pub(super) fn is_active(&self) -> bool {
        let gained = self.singular_values.as_ref().is_none_or(|values| values.any().int64_value(&[]) != 0);
        gained || self.magnitude.is_some() || self.frozen_init.is_some()
    }

    /// Rows of A.
    pub fn rank(&self) -> i64 {
        self.down.size()[0]
    }

    /// `diag(Λ) A`: `[R, in]`.
    pub(crate) fn weighted_down(&self) -> Tensor {
        match &self.singular_values {
            None => self.down.shallow_clone(),
            Some(values) => &self.down * values.unsqueeze(-1),
        }
    }

    /// `B diag(Λ) A − B₀ A₀`: `[out, in]`.
    fn product(&self, kind: Kind) -> Tensor {
        let of = |down: &Tensor, up: &Tensor| up.to_kind(kind).matmul(&down.to_kind(kind)); // [out, in]
        let product = of(&self.weighted_down(), &self.up);
        match &self.frozen_init {
            None => product,
            Some((down, up)) => product - of(down, up),
        }
    }

    /// Its tensors by PEFT's names, and those of the start by ours; shares storage with it.
    pub(super) fn parts(&self) -> Vec<(Part, Tensor)> {
        let start = self.frozen_init.as_ref();
        let parts = [
            (Part::Down, Some(&self.down)),
            (Part::Up, Some(&self.up)),
            (Part::Magnitude, self.magnitude.as_ref()),
            (Part::SingularValues, self.singular_values.as_ref()),
            (Part::FirstDown, start.map(|(down, _)| down)),
            (Part::FirstUp, start.map(|(_, up)| up)),
        ];
        parts.into_iter().filter_map(|(part, tensor)| Some((part, tensor?.shallow_clone()))).collect()
    }
}

/// What a tensor is to its adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Down,
    Up,
    Magnitude,
    SingularValues,
    FirstDown,
    FirstUp,
}

impl Part {
    /// Every part with its name: PEFT's where PEFT has it.
    pub const NAMES: [(Self, &str); 6] = [
        (Self::Down, "lora_A.weight"),
        (Self::Up, "lora_B.weight"),
        (Self::Magnitude, "lora_magnitude_vector"),
        (Self::SingularValues, "lora_E"),
        (Self::FirstDown, "start_A"),
        (Self::FirstUp, "start_B"),
    ];

    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].1
    }

    /// PEFT's name of the part where the adapter is an embedding table's.
    pub fn table_name(self) -> Option<&'static str> {
        match self {
            Self::Down => Some("lora_embedding_A"),
            Self::Up => Some("lora_embedding_B"),
            Self::Magnitude => Some(self.name()),
            _ => None,
        }
    }
}

/// Euclidean norm of each row: `[out, in]` → `[out]`.
pub fn row_norms(weight: &Tensor) -> Tensor {
    weight.norm_scalaropt_dim(2, [1i64], false)
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
    pub(super) fn alpha_of(self, scale: f64, rank: i64) -> f64 {
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
    from_down(down, output, scaling.scale(rank.get()))
}

/// An adapter with the given A `[R, in]`, B zero, and both trainable.
pub fn from_down(down: Tensor, output: i64, scale: f64) -> Lora {
    let rank = down.size()[0];
    let up = Tensor::zeros([output, rank], (Kind::Float, down.device()));
    Lora::new(down, up, scale)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn its_matrices_are_laid_out_as_a_checkpoint_gives_them_back() {
        let columns = Tensor::randn([5, 7], (Kind::Float, Device::Cpu));
        // Another's columns, and rows that begin within it.
        let (down, up) = (columns.tr().narrow(0, 1, 2), columns.narrow(0, 1, 4).narrow(1, 0, 2));
        let lora = Lora::new(down.shallow_clone(), up, 1.0);
        assert_eq!((lora.down.stride(), lora.up.stride()), (vec![5, 1], vec![2, 1]));
        assert_eq!(lora.down, down);
    }
}
