//! Your own environment in a pool: implement gymnasium-rs's `Env`, and wrap it.
//!
//! `cargo run --release -p eva-rl-envs --example custom_env`

use eva_rl_envs::{GymnasiumTask, Phase, StepBatch, TaskPool, VecEnv};
use gymnasium_rs::core::{Env, Info, Options, Reward, Space};
use ndarray::{Array1, Array3, array};

/// Walk from 0 to 1, by steps of at most 0.3.
#[derive(Clone, Default)]
struct Corridor {
    position: f32,
}

impl Env<Array1<f32>, Array1<f32>> for Corridor {
    fn observation_space(&self) -> Space {
        Space::Box { low: array![f32::NEG_INFINITY], high: array![f32::INFINITY] }
    }

    fn action_space(&self) -> Space {
        Space::Box { low: array![-0.3], high: array![0.3] }
    }

    fn reset(&mut self, _seed: Option<i32>, _options: Options) -> (Array1<f32>, Info) {
        self.position = 0.0;
        (array![self.position], Info::new())
    }

    fn step(&mut self, action: Array1<f32>) -> (Array1<f32>, Reward, bool, bool, Info) {
        self.position += action[0];
        (array![self.position], -1.0, self.position >= 1.0, false, Info::new())
    }

    fn render(&self) -> Option<Array3<u8>> {
        None
    }

    fn close(&mut self) {}
}

fn main() -> Result<(), eva_rl_envs::EnvError> {
    let corridor = GymnasiumTask::new("Corridor-v0", 50, Corridor::default())?;
    let mut pool = TaskPool::new(vec![corridor; 8]).with_grain(1);
    let mut batch = StepBatch::new(pool.spec(), pool.num_envs());

    pool.reset(0, &mut batch.observations)?;
    let mut steps = 0;
    while batch.phases[0] == Phase::Running {
        pool.step(&[0.3; 8], &mut batch)?;
        steps += 1;
    }
    println!("{:?} after {steps} steps, at {}", batch.phases[0], batch.final_observations[0]);
    Ok(())
}
