//! Tests of the crate from outside, in one binary.

mod bridge;
mod conformance;
mod golden;
mod gymnasium;
mod play;
mod refusals;
mod scripted;
