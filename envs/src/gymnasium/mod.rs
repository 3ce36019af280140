//! Single environments, whose public interface is gymnasium-rs's: ours as one, a user's in a pool.

mod episode;
mod registered;
mod user;

pub use episode::Episode;
pub use registered::register;
pub(crate) use registered::{registered, registered_ids};
pub use user::GymnasiumTask;

use gymnasium_rs::core::Env;
use ndarray::Array1;

/// What a single environment is to its user.
pub type SingleEnv = dyn Env<Array1<f32>, Array1<f32>> + Send;
