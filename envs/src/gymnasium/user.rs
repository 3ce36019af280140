//! A user's own environment as a task, so that a pool can hold it.

use gymnasium_rs::core::{Env, Options, Space};
use ndarray::Array1;
use rand::RngCore;

use crate::core::error::EnvError;
use crate::core::spec::{ActionSpace, EnvSpec, Phase, Success};
use crate::core::task::{Step, Task};
use crate::render::Frame;

/// A user's environment with the id and the step limit that gymnasium-rs does not know.
///
/// It may also truncate by itself. A panic of the environment is a panic of its pool.
#[derive(Clone, Debug)]
pub struct GymnasiumTask<E> {
    spec: EnvSpec,
    env: E,
}

impl<E: Env<Array1<f32>, Array1<f32>> + Send> GymnasiumTask<E> {
    /// Takes an environment whose observations are a box, and whose actions are a bounded box or
    /// discrete; a discrete action reaches it as its index in an array of one.
    pub fn new(id: &str, max_episode_steps: u32, env: E) -> Result<Self, EnvError> {
        let (observation_low, observation_high) = match env.observation_space() {
            Space::Box { low, high } if !low.is_empty() && low.len() == high.len() => {
                (low.to_vec(), high.to_vec())
            }
            space => {
                return Err(refused(id, "observation", &space, "a box of at least one dimension"));
            }
        };
        let action = match env.action_space() {
            Space::Discrete(n) if n > 0 => ActionSpace::Discrete { n: n.unsigned_abs() as usize, start: 0 },
            Space::Box { low, high } if bounded(&low, &high) => {
                ActionSpace::Box { low: low.to_vec(), high: high.to_vec() }
            }
            space => {
                return Err(refused(id, "action", &space, "discrete, or a box with finite bounds"));
            }
        };
        let spec = EnvSpec {
            id: id.to_owned(),
            observation_low,
            observation_high,
            space: None,
            image: None,
            action,
            max_episode_steps,
            reward_threshold: None,
            reference: None,
            infos: Vec::new(),
            success: Success::Undefined,
        };
        Ok(Self { spec, env })
    }

    /// Sets what the environment itself cannot tell: thresholds, reference scores, success.
    pub fn with_spec(mut self, change: impl FnOnce(&mut EnvSpec)) -> Self {
        change(&mut self.spec);
        self
    }

    fn copy(&self, shown: &Array1<f32>, observation: &mut [f32]) {
        let (id, wanted) = (&self.spec.id, observation.len());
        assert_eq!(shown.len(), wanted, "`{id}` showed an observation that is not of its space");
        for (value, shown) in observation.iter_mut().zip(shown) {
            *value = *shown;
        }
    }
}

impl<E: Env<Array1<f32>, Array1<f32>> + Send> Task for GymnasiumTask<E> {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut dyn RngCore, observation: &mut [f32]) {
        let seed = i32::try_from(rng.next_u32() >> 1).expect("31 bits fit");
        let (shown, _info) = self.env.reset(Some(seed), Options::new());
        self.copy(&shown, observation);
    }

    fn step(&mut self, action: &[f32], observation: &mut [f32]) -> Step {
        let (shown, reward, terminated, truncated, _info) = self.env.step(Array1::from(action.to_vec()));
        self.copy(&shown, observation);
        let phase = match (terminated, truncated) {
            (true, _) => Phase::Terminated,
            (false, true) => Phase::Truncated,
            (false, false) => Phase::Running,
        };
        Step { reward, phase }
    }

    fn render(&self) -> Option<Frame> {
        let pixels = self.env.render()?;
        let (height, width, channels) = pixels.dim();
        assert_eq!(channels, 3, "`{}` drew pixels that are not RGB", self.spec.id);
        Some(Frame { width, height, rgb: pixels.iter().copied().collect() })
    }
}

fn bounded(low: &Array1<f32>, high: &Array1<f32>) -> bool {
    let bounded = |(low, high): (&f32, &f32)| low.is_finite() && high.is_finite() && low <= high;
    !low.is_empty() && low.len() == high.len() && low.iter().zip(high).all(bounded)
}

fn refused(id: &str, which: &'static str, found: &Space, wanted: &'static str) -> EnvError {
    EnvError::Space { id: id.to_owned(), which, found: format!("{found:?}"), wanted }
}
