//! Environments: native tasks, and pools that step many of them in parallel over rows of `f32`.
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

mod registry;
mod space;
mod spec;
mod task;
mod vec_env;

mod error;
mod frame;
mod halves;
mod kwargs;
mod pool;
mod seeding;
mod trig;

mod bridge;
pub mod classic;
mod gymnasium;
#[cfg(feature = "mujoco")]
pub mod mujoco;
pub mod scripted;

/// The versions whose types our interface shows.
pub use {gymnasium_rs, ndarray};

pub use bridge::{BridgeSettings, Failure, Incident, is_bridged};
pub use error::EnvError;
pub use frame::Frame;
pub use gymnasium::{Episode, GymnasiumTask, SingleEnv, register};
pub use halves::{Halves, make_halves};
pub use kwargs::{KwargReader, Kwargs};
pub use pool::TaskPool;
pub use registry::{episode, make, make_with, scripted, scripted_with, spec, specs, task};
pub use scripted::{Controller, VecController};
pub use seeding::{Episodes, episode_rng};
pub use space::{Bound, Leaf, Space};
pub use spec::{ActionSpace, EnvSpec, Phase, ReferenceScores, Success};
pub use task::{NativeTask, Step, Task};
pub use vec_env::{StepBatch, VecEnv, check_actions};
