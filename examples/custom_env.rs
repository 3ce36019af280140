//! The whole program with an environment of your own: implement gymnasium-rs's `Env`, and register it.
//!
//! `cargo run --release --example custom_env -- evaluate POLICY --env Corridor-v0 --env-kwarg goal=2`

use std::process::ExitCode;

use eva_rl::envs::gymnasium_rs::core::{Env, Info, Options, Reward, Space};
use eva_rl::envs::ndarray::{Array1, Array3, array};

fn main() -> ExitCode {
    eva_rl::envs::register("Corridor-v0", 50, |kwargs| {
        Ok(Corridor { position: 0.0, goal: kwargs.number("goal", 1.0)? as f32 })
    })
    .expect("no other environment has this id");
    eva_rl::run()
}

/// Walk from 0 to the goal, by steps of at most 0.3.
struct Corridor {
    position: f32,
    goal: f32,
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
        (array![self.position], -1.0, self.position >= self.goal, false, Info::new())
    }

    fn render(&self) -> Option<Array3<u8>> {
        None
    }

    fn close(&mut self) {}
}
