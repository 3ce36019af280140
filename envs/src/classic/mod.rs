//! The classic control tasks of Gymnasium 1.4, equal to it step by step from equal states.
//!
//! Their reference scores are mean returns over 10,000 episodes of random play and of the scripted
//! controller, which `examples/reference_scores.rs` measures.

mod acrobot;
mod cart_pole;
mod mountain_car;
mod mountain_car_continuous;
mod pendulum;
mod rows;

pub use acrobot::{Acrobot, AcrobotController};
pub use cart_pole::{CartPole, CartPoleController};
pub use mountain_car::{MountainCar, MountainCarController};
pub use mountain_car_continuous::{MountainCarContinuous, MountainCarContinuousController};
pub use pendulum::{Pendulum, PendulumController};
