//! Adapter folders in PEFT's format.

mod config;
mod folder;
mod origin;
mod parts;

pub use folder::{AdapterFolder, fingerprint};
pub use origin::Origin;
