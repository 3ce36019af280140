//! Tests of the crate from outside, in one binary.

#[cfg(target_os = "linux")]
mod bridge;
mod conformance;
mod golden;
mod gymnasium;
#[cfg(feature = "mujoco")]
mod mujoco;
mod play;
mod refusals;
mod scripted;
