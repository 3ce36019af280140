//! Dropout (Srivastava et al. 2014) whose masks are drawn at the speed of memory.
//!
//! On a CPU libtorch draws one number at a time on one thread, and the others wait.

use std::ops::Range;

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use tch::{Device, Kind, Tensor};

/// Masks are drawn from so many equally likely numbers, sixteen bits each.
const LEVELS: u32 = 1 << 16;

/// Zeroes each number of `x` with probability `share`, to 1/65,536, and scales up the others so that their mean
/// stays: `[…]` → `[…]`. Where `x` is of these `rows` of a batch, its mask is a part of the whole batch's.
///
/// libtorch's generator gives one number, from which the whole mask follows. On a GPU the mask is libtorch's, and every
/// part has one of its own.
pub fn dropout(x: &Tensor, share: f64, rows: Option<&Range<usize>>) -> Tensor {
    if x.device() != Device::Cpu {
        return x.dropout(share, true);
    }
    let seed = Tensor::randint(i64::MAX, [1], (Kind::Int64, Device::Cpu)).int64_value(&[0]);
    masked_by(seed.cast_unsigned(), x, share, rows)
}

/// The same by the mask of a seed, on a CPU: `x` `[…]` → `[…]`.
fn masked_by(seed: u64, x: &Tensor, share: f64, rows: Option<&Range<usize>>) -> Tensor {
    let mut random = SmallRng::seed_from_u64(seed);
    let dropped = (share * f64::from(LEVELS)).round() as u32;
    let kept = LEVELS as f32 / (LEVELS - dropped) as f32;
    let before = rows.map_or(0, |rows| x.numel() / rows.len() * rows.start);
    // In whole numbers of the generator, so that a longer mask begins with a shorter one.
    let mut bytes = vec![0u8; (2 * (before + x.numel())).next_multiple_of(8)];
    random.fill_bytes(&mut bytes);
    let bytes = &bytes[2 * before..2 * (before + x.numel())];
    let survives = |pair: &[u8]| u32::from(u16::from_le_bytes([pair[0], pair[1]])) >= dropped;
    let mask: Vec<f32> = bytes.chunks_exact(2).map(|pair| if survives(pair) { kept } else { 0.0 }).collect();
    x * Tensor::from_slice(&mask).view_as(x).to_kind(x.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ones() -> Tensor {
        Tensor::ones([100, 1001], (Kind::Float, Device::Cpu))
    }

    #[test]
    fn so_many_are_zeroed_and_the_mean_stays() {
        tch::manual_seed(1);
        for share in [0.1, 0.5, 0.9] {
            let found = dropout(&ones(), share, None);
            let zeros = found.eq(0.0).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
            assert!((zeros - share).abs() < 0.01, "share {share}: {zeros}");
            let mean = found.mean(Kind::Double).double_value(&[]);
            assert!((mean - 1.0).abs() < 0.03, "share {share}: mean {mean}");
        }
    }

    #[test]
    fn numbers_are_dropped_one_by_one() {
        tch::manual_seed(2);
        let kept = dropout(&ones(), 0.5, None).ne(0.0).to_kind(Kind::Double) - 0.5;
        for shift in [1, 2, 3, 4, 1001] {
            let flat = kept.flatten(0, -1);
            let pairs = flat.narrow(0, 0, 90_000) * flat.narrow(0, shift, 90_000);
            let covariance = pairs.mean(Kind::Double).double_value(&[]);
            assert!(covariance.abs() < 0.004, "shift {shift}: {covariance}");
        }
    }

    #[test]
    fn a_part_s_mask_is_the_whole_batch_s() {
        let whole = Tensor::ones([6, 5, 7], (Kind::Float, Device::Cpu));
        let all = masked_by(9, &whole, 0.5, None);
        for rows in [0..2, 2..3, 3..6] {
            let part = |x: &Tensor| x.narrow(0, rows.start as i64, rows.len() as i64);
            assert_eq!(masked_by(9, &part(&whole), 0.5, Some(&rows)), part(&all));
        }
    }

    #[test]
    fn no_two_masks_are_alike() {
        // That a seed decides them is held by the program's tests: torch's generator is shared with those beside this.
        assert_ne!(dropout(&ones(), 0.1, None), dropout(&ones(), 0.1, None));
    }

    #[test]
    fn a_gradient_passes_where_a_number_did() {
        let x = Tensor::randn([50, 7], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let y = dropout(&x, 0.3, None);
        y.sum(Kind::Float).backward();
        let scale = (y.detach() / x.detach()).nan_to_num(0.0, 0.0, 0.0);
        assert!((x.grad() - scale).abs().max().double_value(&[]) < 1e-4);
    }
}
