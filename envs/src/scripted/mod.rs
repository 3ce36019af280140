//! Scripted controllers: hand-written, good enough to be worth imitating, fast enough for any amount
//! of data. Each looks at the observation alone, so one serves every environment of a pool.

mod balance_pole;
mod pump_links;
mod rock_car;
mod swing_up;

pub use balance_pole::BalancePole;
pub use pump_links::PumpLinks;
pub use rock_car::{RockCar, RockCarThriftily};
pub use swing_up::SwingUp;

/// Chooses an action for an observation.
pub trait Controller: Send {
    /// Writes the action into the caller's row.
    fn act(&mut self, observation: &[f32], action: &mut [f32]);
}
