//! Hops forward, and falls long before the time limit.
//!
//! It earns 1120 ± 75 in 377 steps over 200 of EnvPool's episodes, and was found in 176,755 steps by
//! `python tools/data/search_gait.py Hopper-v5 --target 1100 --seed 0`.

use crate::mujoco::engine::gait::Gait;

/// For `Hopper-v5`.
pub const HOPPER: Gait = Gait {
    env: "Hopper-v5",
    gain: &[
        &[-0.273, -2.753, 0.1408, 0.3023, -0.002676, -0.06117, 0.0003335, -0.2869, -0.1029, 0.03401, 0.0131],
        &[-0.3645, -1.157, -0.4066, -0.3696, 0.1718, 0.05953, 0.04918, -0.2631, 0.05839, -0.08756, -0.00614],
        &[1.441, -0.1324, 0.3248, -0.4394, -0.311, -0.1639, -0.1034, -0.03732, 0.1686, -0.01166, 0.05454],
    ],
    bias: &[0.3336, -0.05686, -1.17],
};
