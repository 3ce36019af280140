//! What a worker says of its environment.

use serde::Deserialize;
use serde_json::Value;

use super::atari_scores;
use super::settings::BridgeSettings;
use crate::core::actions::ACTIONS;
use crate::core::error::EnvError;
use crate::core::space::{ImageLeaf, Space};
use crate::core::spec::{EnvSpec, Success};

/// The contract as `worker.py` writes it.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EnvContract {
    /// A [`Space`].
    observation: Value,
    /// A [`Space`].
    action: Value,
    max_episode_steps: Option<u32>,
    reward_threshold: Option<f64>,
    /// The info that says that an episode succeeded.
    success: Option<String>,
    /// The game of Atari's whose whole and raw returns its episodes have, by ALE's name.
    atari_game: Option<String>,
}

/// What observations may be.
const OBSERVATIONS: &str = "of Box, Discrete, MultiDiscrete, MultiBinary, or Dict and Tuple of these";

/// The same where one key of a Dict is something else.
const OBSERVATIONS_OF_DICT: &str = "of Box, Discrete, MultiDiscrete, MultiBinary, or Dict and Tuple of these; a wrapper can leave the key out, such as gymnasium.wrappers.FilterObservation in a module of your own (env.bridge.imports, --env-import)";

impl EnvContract {
    /// The contract in our terms, and the image that is kept apart from an observation's numbers; or why the
    /// environment cannot be taken.
    pub(super) fn spec(
        self,
        id: &str,
        settings: &BridgeSettings,
    ) -> Result<(EnvSpec, Option<ImageLeaf>), EnvError> {
        let refuse =
            |which, found: String, wanted| EnvError::Space { id: id.to_owned(), which, found, wanted };
        let no_space = |which, value: &Value| {
            let found: String = value.to_string().chars().take(200).collect();
            refuse(which, found, "one of at most 16,777,216 numbers")
        };
        let observation =
            Space::from_json(&self.observation).ok_or_else(|| no_space("observation", &self.observation))?;
        if let Err((path, space)) = observation.leaves() {
            return Err(match path.as_slice() {
                [] => refuse("observation", space.to_string(), OBSERVATIONS),
                path => {
                    let found = format!("a Dict whose key `{}` is {space}", path.join("."));
                    refuse("observation", found, OBSERVATIONS_OF_DICT)
                }
            });
        }
        let (mut low, mut high) = observation.bounds();
        let image = settings.images.then(|| observation.image()).flatten();
        if let (Some(image), Ok(leaves)) = (image, observation.leaves()) {
            let columns = leaves[image.leaf].columns.clone();
            low.drain(columns.clone());
            high.drain(columns);
        }
        if low.is_empty() && image.is_none() {
            return Err(refuse("observation", observation.to_string(), "of at least one number"));
        }
        let action = Space::from_json(&self.action).ok_or_else(|| no_space("action", &self.action))?;
        let action = action.actions().ok_or_else(|| refuse("action", action.to_string(), ACTIONS))?;
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
        let spec = EnvSpec {
            id: id.to_owned(),
            observation_low: low,
            observation_high: high,
            space: Some(observation),
            image: image.map(|image| image.shape),
            action,
            max_episode_steps,
            reward_threshold: self.reward_threshold,
            reference: self.atari_game.as_deref().and_then(atari_scores::reference),
            infos,
            success: success.map_or(Success::Undefined, |column| Success::Info { column }),
        };
        Ok((spec, image))
    }
}
