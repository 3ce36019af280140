//! What a policy computes at a step.

use std::fmt;

use eva_rl_agents::model::{Policy, PolicyConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a policy computes at a step. A TorchScript module always reads windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Inference {
    /// Every token of the window of the last `context_length` steps, as decision transformers are evaluated.
    Window,
    /// The step's own tokens alone, with the keys and values of those before it kept. A context that is full
    /// is rebuilt from its most recent half, so a step looks back on three quarters of the steps on average: another
    /// policy, and a faster one.
    Cached,
    /// As the family's reference acts: Vintix and JAT keep the keys and values of the last `context_length` steps, each as
    /// it was computed when it was new; others read windows.
    Reference,
}

impl Inference {
    /// What `policy` computes where this is asked for: a TorchScript module reads windows alone.
    pub fn by(self, policy: &Policy) -> Self {
        match policy {
            Policy::Transformer(policy) => self.of(policy.config()),
            Policy::TorchScript(_) => Self::Window,
        }
    }

    /// What a policy of this config computes where this is asked for: families whose reference reads windows do so, and
    /// those whose windows are padded have nothing that could be kept.
    pub fn of(self, config: &PolicyConfig) -> Self {
        match self {
            Self::Cached if config.has_action_vocabulary() => Self::Window,
            Self::Reference if !config.has_rolling_reference() => Self::Window,
            asked => asked,
        }
    }
}

impl fmt::Display for Inference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Window => "window",
            Self::Cached => "cached",
            Self::Reference => "reference",
        })
    }
}
