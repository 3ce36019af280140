//! How a run goes on with what its own rollouts bring: one file an algorithm, its loop written out.

mod filtered_bc;
mod grpo;
mod odt;
mod td3_odt;

pub use filtered_bc::filtered_bc;
pub use grpo::grpo;
pub use odt::odt;
pub use td3_odt::td3_odt;
