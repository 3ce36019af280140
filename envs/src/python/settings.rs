//! How Python workers are run.

use std::num::NonZero;
use std::path::PathBuf;
use std::thread;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How Python workers are run; every key has a default.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BridgeSettings {
    /// The interpreter; where absent, `EVA_RL_PYTHON`, then `.bridge/bin/python` in or above the
    /// current folder or the program's, then `python3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub python: Option<PathBuf>,
    /// Modules to import first, which may register environments; the current folder's are found.
    pub imports: Vec<String>,
    /// Numbers of a step's infos to keep, by name; one that a step does not tell counts as 0.
    /// `success` or `is_success`, where the environment tells it, is kept without being named.
    pub infos: Vec<String>,
    /// Processes that share the environments of `gymnasium:`; as many as the machine has cores where absent.
    /// Results do not depend on it. `envpool:` has one process, with threads of its own. A batch of two halves
    /// has at least one process per half.
    #[schemars(range(min = 1, max = 1024), extend("default" = null))]
    pub processes: usize,
    /// The longest that a worker may take to start, to reset or to step.
    #[schemars(range(max = 1e6), extend("exclusiveMinimum" = 0.0))]
    pub timeout_secs: f64,
    /// How often each worker is started again after it failed, before the run gives up.
    #[schemars(range(max = 1_000_000))]
    pub restarts: u32,
    /// Whether the image of an observation is kept apart from its numbers, as bytes, for a policy that reads images;
    /// it is flattened like the rest where not.
    #[serde(skip)]
    pub images: bool,
    /// Whether BabyAI's bot says in every state what it would do, as [`VecEnv::expert_action`](crate::VecEnv) gives.
    #[serde(skip)]
    pub bot: bool,
}

impl Default for BridgeSettings {
    fn default() -> Self {
        Self {
            python: None,
            imports: Vec::new(),
            infos: Vec::new(),
            processes: thread::available_parallelism().map_or(1, NonZero::get),
            timeout_secs: 120.0,
            restarts: 5,
            images: false,
            bot: false,
        }
    }
}
