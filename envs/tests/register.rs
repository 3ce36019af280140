//! Users' environments by their ids. A binary of its own, because what is registered stays.

use eva_rl_envs::gymnasium_rs::core::{Env, Info, Options, Reward, Space};
use eva_rl_envs::ndarray::{Array1, Array3, array};
use eva_rl_envs::{EnvError, Kwargs, Phase, StepBatch, make, register, scripted_with, spec, specs};
use serde_json::json;

/// Walk from 0 to the goal.
struct Corridor {
    position: f32,
    goal: f32,
}

impl Env<Array1<f32>, Array1<f32>> for Corridor {
    fn observation_space(&self) -> Space {
        Space::Box { low: array![f32::NEG_INFINITY], high: array![f32::INFINITY] }
    }

    fn action_space(&self) -> Space {
        Space::Box { low: array![-0.5], high: array![0.5] }
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

fn register_corridor(id: &str) -> Result<(), EnvError> {
    register(id, 50, |kwargs| Ok(Corridor { position: 0.0, goal: kwargs.number("goal", 1.0)? as f32 }))
}

#[test]
fn a_registered_environment_is_made_by_its_id_with_its_kwargs() {
    register_corridor("Corridor-v0").unwrap();
    let kwargs = Kwargs::from([("goal".to_owned(), json!(1.5))]);
    let mut pool = make("Corridor-v0", &kwargs, 20).unwrap();
    let mut batch = StepBatch::new(pool.spec(), 20);
    pool.reset(0, &mut batch.observations).unwrap();
    for _ in 0..2 {
        pool.step(&[0.5; 20], &mut batch).unwrap();
        assert_eq!(batch.phases, [Phase::Running; 20]);
    }
    pool.step(&[0.5; 20], &mut batch).unwrap();
    assert_eq!(batch.phases, [Phase::Terminated; 20]);
    assert_eq!(batch.final_observations, [1.5; 20]);
    assert!(specs().iter().any(|spec| spec.id == "Corridor-v0"));
}

#[test]
fn what_is_wrong_with_a_registration_is_said() {
    register_corridor("Hallway-v0").unwrap();
    let none = Kwargs::new();
    let unknown = Kwargs::from([("length".to_owned(), json!(2))]);
    let sentences = [
        register_corridor("Hallway-v0").unwrap_err(),
        register_corridor("CartPole-v1").unwrap_err(),
        spec("Hallway-v0", &unknown).unwrap_err(),
        scripted_with("Hallway-v0", &none, 1, &Default::default()).err().unwrap(),
    ]
    .map(|error| error.to_string());
    assert_eq!(
        sentences,
        [
            "`Hallway-v0` is taken; register the environment under another id",
            "`CartPole-v1` is taken; register the environment under another id",
            "`Hallway-v0` has no kwarg `length`; it takes `goal`",
            "`Hallway-v0` has no scripted controller; `random` or a policy can act in it",
        ]
    );
}
