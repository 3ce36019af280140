//! Sine and cosine, the same to the last bit on every machine, and faster than libm's.
//!
//! libm's differ between systems, and a trajectory with them. Polynomials are fdlibm's, for which
//! an angle is brought into [-π/4, π/4] by taking off quarter turns.

/// Adding this to a small number leaves the nearest integer in the lowest bits.
const ROUNDER: f64 = 1.5 * (1_u64 << 52) as f64;
/// π/2 in two parts; the first has few enough bits that a multiple of it is exact.
const QUARTER: f64 = 1.570_796_326_734_125_6;
const QUARTER_REST: f64 = 6.077_100_506_506_192e-11;
/// Beyond this, multiples of `QUARTER` are no longer exact. No task turns so far.
const MAX_ANGLE: f64 = 1e6;

/// Sine and cosine, each within 3e-16 of the truth.
#[inline]
pub(crate) fn sin_cos(angle: f64) -> (f64, f64) {
    if angle.abs() <= std::f64::consts::FRAC_PI_4 {
        return (sin_kernel(angle), cos_kernel(angle));
    }
    if angle.abs() > MAX_ANGLE || angle.is_nan() {
        return angle.sin_cos();
    }
    let rounded = angle * std::f64::consts::FRAC_2_PI + ROUNDER;
    let quarters = rounded - ROUNDER;
    let quadrant = rounded.to_bits() & 3;
    let x = (angle - quarters * QUARTER) - quarters * QUARTER_REST;

    // Bits are swapped and signs set without a branch, for a quadrant is hard to foresee.
    let (sin, cos) = (sin_kernel(x).to_bits(), cos_kernel(x).to_bits());
    let swapped = (sin ^ cos) & (quadrant & 1).wrapping_neg();
    let sin = sin ^ swapped ^ ((quadrant & 2) << 62);
    let cos = cos ^ swapped ^ (((quadrant + 1) & 2) << 62);
    (f64::from_bits(sin), f64::from_bits(cos))
}

/// The cosine alone.
#[inline]
pub(crate) fn cos(angle: f64) -> f64 {
    sin_cos(angle).1
}

/// Both kernels sum their terms in pairs, which a processor can do side by side.
fn sin_kernel(x: f64) -> f64 {
    let z = x * x;
    let z2 = z * z;
    let low = -1.666_666_666_666_663_2e-1 + z * 8.333_333_333_322_49e-3;
    let middle = -1.984_126_982_985_795e-4 + z * 2.755_731_370_707_006_8e-6;
    let high = -2.505_076_025_340_686_3e-8 + z * 1.589_690_995_211_55e-10;
    x + x * z * (low + z2 * (middle + z2 * high))
}

fn cos_kernel(x: f64) -> f64 {
    let z = x * x;
    let z2 = z * z;
    let low = 4.166_666_666_666_66e-2 + z * -1.388_888_888_887_411e-3;
    let middle = 2.480_158_728_947_673e-5 + z * -2.755_731_435_139_066_3e-7;
    let high = 2.087_572_321_298_175e-9 + z * -1.135_964_755_778_819_5e-11;
    let half = 0.5 * z;
    let head = 1.0 - half;
    head + ((1.0 - head - half) + z2 * (low + z2 * (middle + z2 * high)))
}

#[cfg(test)]
mod tests {
    use super::sin_cos;

    #[track_caller]
    fn check(angle: f64) {
        let (sin, cos) = sin_cos(angle);
        assert!((sin - angle.sin()).abs() <= 2.3e-16, "sine of {angle}: {sin}, not {}", angle.sin());
        assert!((cos - angle.cos()).abs() <= 2.3e-16, "cosine of {angle}: {cos}, not {}", angle.cos());
    }

    #[test]
    fn every_quadrant_agrees_with_libm() {
        (-200_000..=200_000).for_each(|i| check(f64::from(i) * 7.3e-4));
    }

    #[test]
    fn multiples_of_a_quarter_turn_agree_with_libm() {
        (-1000..=1000).for_each(|i| check(f64::from(i) * std::f64::consts::FRAC_PI_4));
    }

    #[test]
    fn small_angles_keep_their_digits() {
        for angle in [1e-300, -1e-20, 1e-9, -1e-4, 0.2] {
            let (sin, _) = sin_cos(angle);
            assert!((sin / angle.sin() - 1.0).abs() <= 2.3e-16, "sine of {angle}");
        }
    }

    #[test]
    fn angles_out_of_reach_are_left_to_libm() {
        assert_eq!(sin_cos(1e9), 1e9_f64.sin_cos());
        assert!(sin_cos(f64::NAN).0.is_nan() && sin_cos(f64::INFINITY).1.is_nan());
    }
}
