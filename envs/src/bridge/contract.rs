//! What a worker says of its environment.

use serde::Deserialize;

use super::settings::BridgeSettings;
use crate::{ActionSpace, EnvError, EnvSpec, Success};

/// The contract as `worker.py` writes it.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contract {
    observation: Observation,
    action: Action,
    max_episode_steps: Option<u32>,
    reward_threshold: Option<f64>,
    /// The info that says that an episode succeeded.
    success: Option<String>,
}

/// Bounds of an observation's numbers; a missing one is infinite. Or a space that has no rows.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Observation {
    Rows { low: Vec<Option<f32>>, high: Vec<Option<f32>> },
    Other(String),
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Discrete { n: usize },
    MultiDiscrete { counts: Vec<usize> },
    Box { low: Vec<f32>, high: Vec<f32> },
    Other(String),
}

impl Contract {
    /// The contract in our terms, or why the environment cannot be taken.
    pub(super) fn spec(self, id: &str, settings: &BridgeSettings) -> Result<EnvSpec, EnvError> {
        let refuse =
            |which, found: String, wanted| EnvError::Space { id: id.to_owned(), which, found, wanted };
        let (low, high) = match self.observation {
            Observation::Rows { low, high } if !low.is_empty() && low.len() == high.len() => (low, high),
            Observation::Rows { .. } => {
                return Err(refuse("observation", "empty".to_owned(), "at least one number"));
            }
            Observation::Other(found) => {
                let wanted = if found.starts_with("a Dict whose key `") {
                    "of Box, Discrete, or Dict of these; a wrapper can leave the key out, such as gymnasium.wrappers.FilterObservation in a module of your own (env.bridge.imports, --env-import)"
                } else {
                    "of Box, Discrete, or Dict of these"
                };
                return Err(refuse("observation", found, wanted));
            }
        };
        let action = match self.action {
            Action::Discrete { n } if n > 0 => ActionSpace::Discrete { n },
            Action::MultiDiscrete { counts } if !counts.is_empty() && !counts.contains(&0) => {
                ActionSpace::MultiDiscrete { counts }
            }
            Action::Box { low, high } if !low.is_empty() && low.len() == high.len() => {
                ActionSpace::Box { low, high }
            }
            other => {
                let found = match other {
                    Action::Other(found) => found,
                    empty => format!("{empty:?}"),
                };
                let wanted = "Discrete or MultiDiscrete from 0 on, or a Box of bounded floats";
                return Err(refuse("action", found, wanted));
            }
        };
        let max_episode_steps = self
            .max_episode_steps
            .filter(|steps| *steps > 0)
            .ok_or_else(|| EnvError::NoStepLimit { id: id.to_owned() })?;
        let mut infos: Vec<String> = Vec::new();
        for name in self.success.iter().chain(&settings.infos) {
            if !infos.contains(name) {
                infos.push(name.clone());
            }
        }
        let success = infos.iter().position(|name| ["success", "is_success"].contains(&name.as_str()));
        Ok(EnvSpec {
            id: id.to_owned(),
            observation_low: low.into_iter().map(|bound| bound.unwrap_or(f32::NEG_INFINITY)).collect(),
            observation_high: high.into_iter().map(|bound| bound.unwrap_or(f32::INFINITY)).collect(),
            action,
            max_episode_steps,
            reward_threshold: self.reward_threshold,
            reference: None,
            infos,
            success: success.map_or(Success::Undefined, |column| Success::Info { column }),
        })
    }
}
