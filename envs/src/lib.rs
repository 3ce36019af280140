//! Environments: native tasks, and pools that step many of them in parallel over rows of `f32`.

mod spec;

mod task;

mod vec_env;

mod pool;

mod registry;

mod options;

mod error;

pub mod tasks;

pub mod gymnasium;

pub use error::EnvError;
pub use options::Kwargs;
pub use pool::TaskPool;
pub use registry::{make, scripted, spec, specs};
pub use spec::{ActionSpace, EnvSpec, Phase, ReferenceScores, Success};
pub use task::{Controller, Step, Task};
pub use vec_env::{StepBatch, VecEnv, check_actions};
