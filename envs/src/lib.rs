//! Environments: native tasks, and pools that step many of them in parallel over rows of `f32`.

mod spec;

pub use spec::{ActionSpace, EnvSpec, Phase, ReferenceScores, Success};
