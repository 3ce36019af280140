//! Numbers in [−1, 1] as one of several bins.

use tch::{Kind, Tensor};

use super::config::PolicyConfig;

/// The action head's outputs, a row of logits a dimension: `[…, A · bins]` → `[…, A, bins]`.
pub fn split(head: &Tensor, act_dim: i64) -> Tensor {
    let mut shape = head.size();
    shape.pop();
    shape.extend([act_dim, -1]);
    head.reshape(shape)
}

/// What the ids of a dimension's logits stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bins {
    /// So many, evenly spaced, the first at −1 and the last at 1.
    Even(i64),
    /// `bins` of equal width from −1 to 1, each standing for its lower edge, behind `before` ids that stand for −1.
    LowerEdges {
        /// How many.
        bins: i64,
        /// Ids before the first.
        before: i64,
    },
}

impl Bins {
    /// Those of a policy whose actions are binned.
    pub fn of(config: &PolicyConfig) -> Self {
        let ids = config.action_bins.expect("the policy's actions are binned");
        match config.ids_before_bins {
            None => Self::Even(ids),
            Some(before) => Self::LowerEdges { bins: ids - before, before },
        }
    }

    /// How many ids there are.
    pub fn ids(self) -> i64 {
        match self {
            Self::Even(bins) => bins,
            Self::LowerEdges { bins, before } => before + bins,
        }
    }

    /// The id of each number: `[…]` → `[…]`, whole numbers.
    pub fn nearest(self, numbers: &Tensor) -> Tensor {
        match self {
            Self::Even(bins) => {
                ((numbers.clamp(-1.0, 1.0) + 1.0) * ((bins - 1) as f64 / 2.0)).round().to_kind(Kind::Int64)
            }
            Self::LowerEdges { bins, before } => {
                let edges = ((numbers + 1.0) / (2.0 / bins as f64)).trunc().clamp(0.0, (bins - 1) as f64);
                edges.to_kind(Kind::Int64) + before
            }
        }
    }

    /// The numbers that ids stand for: `[…]`, whole numbers → `[…]`.
    pub fn number(self, ids: &Tensor) -> Tensor {
        match self {
            Self::Even(bins) => ids.to_kind(Kind::Float) * (2.0 / (bins - 1) as f64) - 1.0,
            Self::LowerEdges { bins, before } => {
                (ids - before).clamp_min(0).to_kind(Kind::Float) * (2.0 / bins as f64) - 1.0
            }
        }
    }

    /// The number of the most probable id: `[…, ids]` → `[…]`.
    pub fn mode(self, logits: &Tensor) -> Tensor {
        self.number(&logits.argmax(-1, false))
    }

    /// The mean number of ids drawn by their logits: `[…, ids]` → `[…]`.
    pub fn mean(self, logits: &Tensor) -> Tensor {
        let numbers = self.number(&Tensor::arange(self.ids(), (Kind::Int64, logits.device()))); // [ids]
        (logits.softmax(-1, Kind::Float) * numbers).sum_dim_intlist(-1, false, Kind::Float)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_s_own_number_falls_into_it_and_the_bounds_are_exact() {
        for bins in [2, 3, 64, 256].map(Bins::Even) {
            let ids = Tensor::arange(bins.ids(), (Kind::Int64, tch::Device::Cpu));
            let numbers = bins.number(&ids);
            assert_eq!(bins.nearest(&numbers), ids);
            assert_eq!(numbers.min().double_value(&[]), -1.0);
            assert_eq!(numbers.max().double_value(&[]), 1.0);
        }
    }

    #[test]
    fn lower_edges_stand_behind_the_ids_before_them() {
        let bins = Bins::LowerEdges { bins: 4, before: 3 };
        let numbers = Tensor::from_slice(&[-1.5f32, -1.0, -0.6, -0.5, 0.0, 0.49, 0.5, 1.0, 2.0]);
        assert_eq!(bins.nearest(&numbers), Tensor::from_slice(&[3i64, 3, 3, 4, 5, 5, 6, 6, 6]));
        let ids = Tensor::arange(bins.ids(), (Kind::Int64, tch::Device::Cpu));
        assert_eq!(bins.number(&ids), Tensor::from_slice(&[-1.0f32, -1.0, -1.0, -1.0, -0.5, 0.0, 0.5]));
    }

    #[test]
    fn a_mean_lies_between_its_bins() {
        let logits = Tensor::from_slice(&[0.0f32, f32::NEG_INFINITY, 3f32.ln()]); // 1/4 at −1, 3/4 at 1
        assert!((Bins::Even(3).mean(&logits).double_value(&[]) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn numbers_outside_fall_into_the_outermost_bins() {
        assert_eq!(
            Bins::Even(5).nearest(&Tensor::from_slice(&[-3.0f32, 7.0])),
            Tensor::from_slice(&[0i64, 4])
        );
    }
}
