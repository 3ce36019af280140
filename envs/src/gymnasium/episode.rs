//! A native task as a single environment: with its step limit, its seed, and Gymnasium's options.

use gymnasium_rs::core::{Env, Info, Options, Reward, Space};
use ndarray::{Array1, Array3};
use rand::Rng;
use serde_json::Value;

use crate::core::seeding::episode_rng;
use crate::core::spec::{ActionSpace, Phase};
use crate::core::task::NativeTask;
use crate::core::vec_env::check_actions;
use crate::render::Frame;

/// One environment that its user resets.
///
/// Its k-th reset after seed s starts where episode k of a pool with seed s does; unseeded, s is 0.
/// Options are Gymnasium's (`low` and `high`, for Pendulum `x_init` and `y_init`), and `state`, an
/// array of numbers (for MuJoCo's tasks positions, then velocities), which starts in just that state. gymnasium-rs cannot refuse, so a wrong option
/// or action panics with a sentence.
#[derive(Clone, Debug)]
pub struct Episode<T> {
    task: T,
    seed: u64,
    resets: u64,
    steps: u32,
    observation: Array1<f32>,
}

impl<T: NativeTask> Episode<T> {
    /// A task, before its first reset.
    pub fn new(task: T) -> Self {
        let observation = Array1::zeros(task.spec().observation_width());
        Self { task, seed: 0, resets: 0, steps: 0, observation }
    }
}

impl<T: NativeTask> Env<Array1<f32>, Array1<f32>> for Episode<T> {
    fn observation_space(&self) -> Space {
        let spec = self.task.spec();
        Space::Box {
            low: Array1::from(spec.observation_low.clone()),
            high: Array1::from(spec.observation_high.clone()),
        }
    }

    fn action_space(&self) -> Space {
        match &self.task.spec().action {
            ActionSpace::Discrete { n, .. } => {
                Space::Discrete(i32::try_from(*n).expect("a native task has few actions"))
            }
            ActionSpace::MultiDiscrete { .. } => unreachable!("no native task has several actions at once"),
            ActionSpace::Box { low, high } => {
                Space::Box { low: Array1::from(low.clone()), high: Array1::from(high.clone()) }
            }
        }
    }

    fn reset(&mut self, seed: Option<i32>, options: Options) -> (Array1<f32>, Info) {
        if let Some(seed) = seed {
            self.seed = u64::try_from(seed).unwrap_or_else(|_| panic!("seed {seed} is negative"));
            self.resets = 0;
        }
        let mut rng = episode_rng(self.seed, self.resets);
        self.resets += 1;
        self.steps = 0;

        let row = self.observation.as_slice_mut().expect("the row is contiguous");
        let bound = |name: &str, default| options.get(name).map_or(default, |value| number(name, value));
        if let Some(state) = options.get("state") {
            self.task.set_state(&numbers(state), row);
        } else if !options.is_empty()
            && let Some(ranges) = self.task.start_ranges(&bound)
        {
            let state: Vec<f64> =
                ranges.iter().map(|(low, high)| low + (high - low) * rng.r#gen::<f64>()).collect();
            self.task.set_state(&state, row);
        } else {
            self.task.reset(&mut rng, row);
        }
        (self.observation.clone(), Info::new())
    }

    fn step(&mut self, action: Array1<f32>) -> (Array1<f32>, Reward, bool, bool, Info) {
        assert!(self.resets > 0, "`{}` is stepped before its first reset", self.task.spec().id);
        let spec = self.task.spec();
        assert_eq!(action.len(), spec.action.width(), "an action of `{}` has the wrong length", spec.id);
        let action = action.to_vec();
        check_actions(&spec.action, &action).unwrap_or_else(|error| panic!("{error}"));
        let limit = spec.max_episode_steps;

        let row = self.observation.as_slice_mut().expect("the row is contiguous");
        let step = self.task.step(&action, row);
        self.steps += 1;
        let (terminated, truncated) = (step.phase == Phase::Terminated, self.steps >= limit);
        (self.observation.clone(), step.reward, terminated, truncated, Info::new())
    }

    fn render(&self) -> Option<Array3<u8>> {
        let Frame { width, height, rgb } = self.task.render()?;
        Some(Array3::from_shape_vec((height, width, 3), rgb).expect("a frame has its three sizes"))
    }

    fn close(&mut self) {}
}

fn numbers(state: &Value) -> Vec<f64> {
    let read = |array: &Vec<Value>| array.iter().map(Value::as_f64).collect();
    state
        .as_array()
        .and_then(read)
        .unwrap_or_else(|| panic!("option `state` is {state}; it must be an array of numbers"))
}

fn number(name: &str, value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("option `{name}` is {value}; it must be a number"))
}
