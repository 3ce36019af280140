//! The crate from outside, against Gymnasium and against workers that fail.
//!
//! | module | what it tests | reference |
//! |---|---|---|
//! | `atari_players` | what scripted players of Atari games earn | – |
//! | `bridge` | environments in Python workers | the same in Python |
//! | `bridge_failures` | workers that die, hang and talk nonsense | – |
//! | `conformance` | what every environment and every pool must do | – |
//! | `golden` | classic tasks, step by step | Gymnasium |
//! | `gymnasium` | gymnasium-rs's interface, both ways | – |
//! | `kinds` | every kind of spaces that EnvPool has | EnvPool |
//! | `mujoco` | MuJoCo's tasks, step by step | Gymnasium, mujoco |
//! | `play` | plays whole episodes, for the others | – |
//! | `refusals` | wrong ids, options and actions | – |
//! | `retired` | environments that nobody looks at any more | – |
//! | `scripted` | what scripted controllers earn | – |

#[cfg(target_os = "linux")]
mod atari_players;
#[cfg(target_os = "linux")]
mod bridge;
#[cfg(target_os = "linux")]
mod bridge_failures;
mod conformance;
mod golden;
mod gymnasium;
#[cfg(target_os = "linux")]
mod kinds;
#[cfg(feature = "mujoco")]
mod mujoco;
mod play;
mod refusals;
#[cfg(target_os = "linux")]
mod retired;
mod scripted;
