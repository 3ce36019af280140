//! How adapters were initialised, as `adapter_config.json` records it.

/// How the adapters began, kept in `adapter_config.json` as PEFT does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Origin {
    /// A random, B zero.
    Lora,
    /// EVA, with its rank ratio and convergence threshold.
    Eva {
        /// A site's rank may grow to `rho` times the mean rank.
        rho: f64,
        /// Cosine between a component and the last batch's at which it counts as converged, by PEFT's rule; absent
        /// where another rule ended the search.
        tau: Option<f64>,
    },
}
