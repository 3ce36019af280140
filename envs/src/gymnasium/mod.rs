//! Single environments, whose public interface is gymnasium-rs's: ours as one, a user's in a pool.

mod episode;
mod registered;
mod single;
mod user;

pub use episode::Episode;
pub(crate) use registered::{register, registered, registered_ids};
pub use single::SingleEnv;
pub use user::GymnasiumTask;
