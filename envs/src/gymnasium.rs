//! gymnasium-rs, the public interface of single environments, in both directions: our tasks as its
//! `Env`, and a user's `Env` as a task for the pool.

use std::collections::HashMap;

use gymnasium_rs::core::{Env, Info, Options, Reward, Space};
use ndarray::{Array1, Array3};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::EnvError;
use crate::pool::TaskPool;
use crate::spec::{ActionSpace, EnvSpec, Phase, Success};
use crate::task::{Step, Task};
use crate::vec_env::{VecEnv, check_actions};

/// A task with its time limit, as gymnasium-rs's `Env`.
pub struct Single<T> {
    task: T,
    rng: ChaCha8Rng,
    steps: u32,
}

impl<T: Task> Single<T> {
    /// Ready to be reset.
    pub fn new(task: T) -> Self {
        Self { task, rng: ChaCha8Rng::from_entropy(), steps: 0 }
    }
}

impl<T: Task> Env<Array1<f32>, Array1<f32>> for Single<T> {
    fn observation_space(&self) -> Space {
        let spec = self.task.spec();
        Space::Box {
            low: Array1::from(spec.observation_low.clone()),
            high: Array1::from(spec.observation_high.clone()),
        }
    }

    fn action_space(&self) -> Space {
        match &self.task.spec().action {
            ActionSpace::Discrete { n } => Space::Discrete(*n as i32),
            ActionSpace::Box { low, high } => {
                Space::Box { low: Array1::from(low.clone()), high: Array1::from(high.clone()) }
            }
        }
    }

    fn reset(&mut self, seed: Option<i32>, _: Options) -> (Array1<f32>, Info) {
        if let Some(seed) = seed {
            self.rng = ChaCha8Rng::seed_from_u64(i64::from(seed) as u64);
        }
        self.steps = 0;
        let mut observation = Array1::zeros(self.task.spec().observation_width());
        self.task.reset(&mut self.rng, observation.as_slice_mut().expect("a new array is contiguous"));
        (observation, HashMap::new())
    }

    /// Panics where the action lies outside the space, which the interface cannot say otherwise.
    fn step(&mut self, action: Array1<f32>) -> (Array1<f32>, Reward, bool, bool, Info) {
        let action = action.to_vec();
        if let Err(error) = check_actions(&self.task.spec().action, &action) {
            panic!("{error}");
        }
        let mut observation = Array1::zeros(self.task.spec().observation_width());
        let row = observation.as_slice_mut().expect("a new array is contiguous");
        let step = self.task.step(&action, row);
        self.steps += 1;
        let truncated = step.phase == Phase::Truncated || self.steps >= self.task.spec().max_episode_steps;
        (observation, step.reward, step.phase == Phase::Terminated, truncated, HashMap::new())
    }

    fn render(&self) -> Option<Array3<u8>> {
        None
    }

    fn close(&mut self) {}
}

/// A user's gymnasium-rs environment as a task.
struct Foreign<E> {
    env: E,
    spec: EnvSpec,
}

impl<E: Env<Array1<f32>, Array1<f32>> + Send> Task for Foreign<E> {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut dyn RngCore, observation: &mut [f32]) {
        let (first, _) = self.env.reset(Some(rng.next_u32() as i32), HashMap::new());
        write(&self.spec, &first, observation);
    }

    fn step(&mut self, action: &[f32], observation: &mut [f32]) -> Step {
        let (next, reward, terminated, truncated, _) = self.env.step(Array1::from(action.to_vec()));
        write(&self.spec, &next, observation);
        let phase = match (terminated, truncated) {
            (true, _) => Phase::Terminated,
            (false, true) => Phase::Truncated,
            (false, false) => Phase::Running,
        };
        Step { reward, phase }
    }
}

fn write(spec: &EnvSpec, from: &Array1<f32>, row: &mut [f32]) {
    assert_eq!(from.len(), row.len(), "`{}` gave an observation of another width than its space", spec.id);
    for (number, value) in row.iter_mut().zip(from) {
        *number = *value;
    }
}

/// A pool of a user's gymnasium-rs environments, one a row, each handed to a thread by itself.
///
/// Their spaces say what the pool is; `max_episode_steps` cuts an episode that does not end itself.
pub fn pool_of<E>(id: &str, max_episode_steps: u32, envs: Vec<E>) -> Result<Box<dyn VecEnv>, EnvError>
where
    E: Env<Array1<f32>, Array1<f32>> + Send + 'static,
{
    let Some(first) = envs.first() else { return Err(EnvError::EmptyPool { id: id.to_owned() }) };
    let refuse = |what: String| EnvError::Space { id: id.to_owned(), what };
    let (observation_low, observation_high) = match first.observation_space() {
        Space::Box { low, high } => (low.to_vec(), high.to_vec()),
        Space::Discrete(n) => return Err(refuse(format!("a discrete observation space of {n}"))),
    };
    let action = match first.action_space() {
        Space::Discrete(n) if n > 0 => ActionSpace::Discrete { n: n as usize },
        Space::Box { low, high } if low.iter().chain(&high).all(|bound| bound.is_finite()) => {
            ActionSpace::Box { low: low.to_vec(), high: high.to_vec() }
        }
        space => return Err(refuse(format!("the action space {space:?}"))),
    };
    let spec = EnvSpec {
        id: id.to_owned(),
        observation_low,
        observation_high,
        action,
        max_episode_steps,
        reward_threshold: None,
        reference: None,
        success: Success::Undefined,
    };
    let tasks = envs.into_iter().map(|env| Foreign { env, spec: spec.clone() }).collect();
    Ok(Box::new(TaskPool::new(tasks, 1)?))
}
