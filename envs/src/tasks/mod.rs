//! The native tasks: Gymnasium's classic control, step for step.

mod acrobot;
mod cart_pole;
mod mountain_car;
mod mountain_car_continuous;
mod pendulum;

pub use acrobot::Acrobot;
pub use cart_pole::CartPole;
pub use mountain_car::MountainCar;
pub use mountain_car_continuous::MountainCarContinuous;
pub use pendulum::Pendulum;

use rand::{Rng, RngCore};

use crate::error::EnvError;
use crate::options::Kwargs;
use crate::task::{Controller, Task};

/// A task that the registry knows.
pub trait Native: Task + Sized + 'static {
    /// Gymnasium's id.
    const ID: &'static str;
    /// Names of its options.
    const OPTIONS: &'static [&'static str];

    /// The task with these options, whose names were checked.
    fn new(kwargs: &Kwargs) -> Result<Self, EnvError>;

    /// A scripted controller, good enough to be worth imitating.
    fn controller(&self) -> Box<dyn Controller>;

    /// Continues from a given physical state, in Gymnasium's `env.unwrapped.state` order.
    fn set_state(&mut self, state: &[f64]);
}

/// Uniform in [low, high).
fn uniform(rng: &mut dyn RngCore, low: f64, high: f64) -> f64 {
    low + (high - low) * rng.r#gen::<f64>()
}
