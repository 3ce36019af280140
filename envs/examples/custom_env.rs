//! A user's own gymnasium-rs environment in the pool: walk right, three steps to the goal.

use std::collections::HashMap;

use eva_rl_envs::StepBatch;
use eva_rl_envs::gymnasium::pool_of;
use gymnasium_rs::core::{Env, Info, Options, Reward, Space};
use ndarray::{Array1, Array3, array};

struct Walk(f32);

impl Env<Array1<f32>, Array1<f32>> for Walk {
    fn observation_space(&self) -> Space {
        Space::Box { low: array![-9.0], high: array![9.0] }
    }
    fn action_space(&self) -> Space {
        Space::Discrete(2)
    }
    fn reset(&mut self, _: Option<i32>, _: Options) -> (Array1<f32>, Info) {
        self.0 = 0.0;
        (array![self.0], HashMap::new())
    }
    fn step(&mut self, action: Array1<f32>) -> (Array1<f32>, Reward, bool, bool, Info) {
        self.0 += 2.0 * action[0] - 1.0;
        (array![self.0], -1.0, self.0 >= 3.0, false, HashMap::new())
    }
    fn render(&self) -> Option<Array3<u8>> {
        None
    }
    fn close(&mut self) {}
}

fn main() {
    let mut pool = pool_of("Walk-v0", 20, vec![Walk(0.0), Walk(0.0)]).expect("the spaces fit a pool");
    let mut batch = StepBatch::new(pool.spec(), 2);
    pool.reset(0, &mut batch.observations).expect("the pool starts");
    for _ in 0..3 {
        pool.step(&[1.0, 0.0], &mut batch).expect("both actions lie in the space");
        println!("{:?} {:?}", batch.observations, batch.phases);
    }
}
