//! Adapter initialisation: one file per method, and one table of all ([`Method`]). EVA, which allocates ranks over all
//! modules, has a folder of its own.
//!
//! A new method is a file that implements [`SiteMethod`] (or [`AdapterMethod`], where it does not initialise one
//! module at a time), and a line in `table.rs`.

pub mod eva;

mod adalora;
mod corda;
mod counted;
mod decomposition;
mod eva_method;
mod gradient;
mod ipa;
mod lora_ga;
mod lora_one;
mod method;
mod milora;
mod olora;
mod orthogonal;
mod pissa;
mod plain_lora;
#[cfg(test)]
mod rank_tests;
mod site_method;
mod table;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod whole_policy;

pub use adalora::{AdaLora, BadState, RankAllocator, Schedule, orthogonality};
pub use corda::{CorDa, Mode};
pub use decomposition::SiteError;
pub use eva_method::{adapters as eva_adapters, observe_policy, shared_inputs};
pub use gradient::mean_gradients;
pub use ipa::Ipa;
pub use lora_ga::LoraGa;
pub use lora_one::LoraOne;
pub use method::{AdapterMethod, InitError, Initialised, TaskData, WithDefaults};
pub use milora::MiLora;
pub use olora::OLora;
pub use orthogonal::Orthogonal;
pub use pissa::PiSsa;
pub use plain_lora::PlainLora;
pub use site_method::{Requires, SiteContext, SiteMethod};
pub use table::Method;
pub use whole_policy::{FullFineTuning, HeadOnly, head_only};
