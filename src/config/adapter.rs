//! The table under `adapter`: which method, and its options. All of them are declared in `eva_rl_agents::adapter_init`.

use eva_rl_agents::adapter::{OptionChecks, RunSize};
pub use eva_rl_agents::adapter_init::Method as AdapterConfig;

use super::checks::Checks;

/// Checks what types cannot.
pub(super) fn check(method: &AdapterConfig, run: RunSize, checks: &mut Checks) {
    let mut options = OptionChecks::default();
    method.as_method().check(run, &mut options);
    for bad in options.bad {
        let key = format!("adapter.{}.{}", method.key(), bad.key);
        checks.relation(key, bad.found, false, &bad.wanted);
    }
}
