//! Environments: native tasks, and pools that step many of them in parallel over rows of `f32`.
//!
//! | folder | what it holds |
//! |---|---|
//! | `core` | tasks and batches of them, spaces, contracts, seeds, options, errors |
//! | `classic`, `mujoco` | native tasks, a file each with its scripted controller |
//! | `atari` | scripted players of Atari games, which look at frames |
//! | `pool` | batches of native tasks on rayon's threads |
//! | `python` | environments of EnvPool and Gymnasium in worker processes |
//! | `gymnasium` | gymnasium-rs's interface, both ways |
//! | `render` | pictures |
//! | `registry.rs` | every environment by its id |
//!
//! ```
//! use eva_rl_envs::{Kwargs, StepBatch, make};
//!
//! let mut pool = make("CartPole-v1", &Kwargs::new(), 16)?;
//! let mut batch = StepBatch::new(pool.spec(), pool.num_envs());
//! pool.reset(0, &mut batch.observations)?;
//! pool.step(&[1.0; 16], &mut batch)?;
//! assert_eq!(batch.rewards, [1.0; 16]);
//! # Ok::<(), eva_rl_envs::EnvError>(())
//! ```

#[cfg(all(feature = "python", target_os = "linux"))]
mod atari;
mod core;
mod pool;
mod python;
mod registry;
mod render;

pub mod classic;
mod gymnasium;
#[cfg(feature = "mujoco")]
pub mod mujoco;

/// The versions whose types our interface shows.
pub use {gymnasium_rs, ndarray};

pub use crate::core::actions::ACTIONS;
pub use crate::core::controller::{Controller, VecController};
pub use crate::core::error::EnvError;
pub use crate::core::kwargs::{KwargReader, Kwargs};
pub use crate::core::seeding::{Episodes, episode_rng};
pub use crate::core::space::{Bound, ImageLeaf, Leaf, Part, PartKind, Space};
pub use crate::core::spec::{ActionSpace, EnvSpec, Expert, Phase, ReferenceScores, Success};
pub use crate::core::task::{NativeTask, Step, Task};
pub use crate::core::vec_env::{StepBatch, VecEnv, check_actions};
pub use crate::core::worker_failure::{Failure, Incident};
pub use crate::gymnasium::{Episode, GymnasiumTask, SingleEnv};
pub use crate::pool::{Halves, TaskPool};
pub use crate::python::{BridgeSettings, is_bridged};
pub use crate::registry::{
    episode, has_bot, make, make_halves, make_with, register, scripted, scripted_with, spec, specs, task,
};
pub use crate::render::Frame;
