//! gymnasium-rs's interface: our tasks behind it, and a user's environment in a pool.

use std::collections::HashMap;

use eva_rl_envs::{
    EnvError, GymnasiumTask, Kwargs, Phase, SingleEnv, StepBatch, TaskPool, VecEnv, episode, make, specs,
};
use gymnasium_rs::core::{Env, Info, Options, Reward, Space};
use ndarray::{Array1, Array3, array};
use serde_json::json;

fn single(id: &str) -> Box<SingleEnv> {
    episode(id, &Kwargs::new()).expect("the id is native")
}

#[test]
fn the_kth_reset_starts_where_a_pools_kth_episode_does() {
    for spec in specs() {
        let width = spec.observation_width();
        let mut pool = make(&spec.id, &Kwargs::new(), 3).expect("the id is native");
        let mut starts = vec![0.0; 3 * width];
        pool.reset(9, &mut starts).expect("a native pool resets");

        let mut env = single(&spec.id);
        let resets = [env.reset_seed(9).0, env.reset_default().0, env.reset_default().0];
        assert_eq!(starts, resets.iter().flatten().copied().collect::<Vec<_>>(), "{}", spec.id);
    }
}

#[test]
fn spaces_are_those_of_the_contract() {
    assert_eq!(single("Acrobot-v1").action_space(), Space::Discrete(3));
    let Space::Box { low, high } = single("Pendulum-v1").action_space() else { panic!("torque is a box") };
    assert_eq!((low, high), (array![-2.0], array![2.0]));
    let Space::Box { high, .. } = single("MountainCar-v0").observation_space() else {
        panic!("an observation is a box")
    };
    assert_eq!(high, array![0.6, 0.07]);
}

#[test]
fn an_episode_reports_its_limit() {
    let mut env = single("Pendulum-v1");
    env.reset_seed(1);
    for step in 1..=200 {
        let (_, reward, terminated, truncated, _) = env.step(array![1.0]);
        assert!(reward <= 0.0 && !terminated);
        assert_eq!(truncated, step == 200);
    }
}

#[test]
fn a_picture_has_rows_columns_and_three_colours() {
    let mut env = single("MountainCar-v0");
    env.reset_seed(0);
    let picture = env.render().expect("a native task draws");
    assert_eq!(picture.dim(), (200, 300, 3));
    assert_eq!(picture[[0, 0, 0]], 255, "the sky is white");
    assert_ne!(picture[[199, 150, 0]], 255, "the ground is not");
}

#[track_caller]
fn check_start(id: &str, options: serde_json::Value, holds: impl Fn(&Array1<f32>) -> bool) {
    let options: Options = serde_json::from_value(options).expect("options are a table");
    let mut env = single(id);
    for seed in 0..50 {
        let (shown, _) = env.reset(Some(seed), options.clone());
        assert!(holds(&shown), "{id} starts at {shown}");
    }
}

#[test]
fn options_bound_the_start_as_in_gymnasium() {
    check_start("CartPole-v1", json!({"low": 0.1, "high": 0.2}), |shown| {
        shown.iter().all(|x| (0.1..=0.2).contains(x))
    });
    check_start("MountainCar-v0", json!({"high": -0.55}), |shown| {
        (-0.6..=-0.55).contains(&shown[0]) && shown[1] == 0.0
    });
    check_start("Pendulum-v1", json!({"x_init": 0.1, "y_init": 0.0}), |shown| {
        shown[0] > 0.99 && shown[2] == 0.0
    });
}

#[test]
fn a_start_can_be_given_outright() {
    check_start("MountainCarContinuous-v0", json!({"state": [0.25, 0.0]}), |shown| {
        *shown == array![0.25, 0.0]
    });
}

/// Counts up by its action; ends at 3, gives up at 5, and starts at the last digit of its seed.
#[derive(Clone)]
struct Counter {
    count: f32,
}

impl Env<Array1<f32>, Array1<f32>> for Counter {
    fn observation_space(&self) -> Space {
        Space::Box { low: array![0.0], high: array![f32::INFINITY] }
    }

    fn action_space(&self) -> Space {
        Space::Discrete(6)
    }

    fn reset(&mut self, seed: Option<i32>, _options: Options) -> (Array1<f32>, Info) {
        self.count = (seed.expect("a pool seeds its episodes") % 10) as f32 / 100.0;
        (array![self.count], HashMap::new())
    }

    fn step(&mut self, action: Array1<f32>) -> (Array1<f32>, Reward, bool, bool, Info) {
        self.count += action[0];
        let whole = self.count.floor();
        (array![self.count], action[0], whole == 3.0, whole == 5.0, HashMap::new())
    }

    fn render(&self) -> Option<Array3<u8>> {
        None
    }

    fn close(&mut self) {}
}

/// What one environment of a pool of counters says, step by step, with a limit of four steps.
#[track_caller]
fn check_counter(actions: &[f32], phases: &[Phase]) {
    let counter = GymnasiumTask::new("Counter-v0", 4, Counter { count: 0.0 }).expect("its spaces serve");
    let mut pool = TaskPool::new(vec![counter; 5]).with_grain(1);
    let mut batch = StepBatch::new(pool.spec(), 5);
    pool.reset(0, &mut batch.observations).expect("a native pool resets");
    for (action, phase) in actions.iter().zip(phases) {
        let before = batch.observations.clone();
        pool.step(&[*action; 5], &mut batch).expect("the actions are in bounds");
        assert_eq!(batch.phases, [*phase; 5]);
        assert_eq!(batch.rewards, [*action; 5]);
        let shown = if *phase == Phase::Running { &batch.observations } else { &batch.final_observations };
        assert!(before.iter().zip(shown).all(|(before, after)| (before + action - after).abs() < 1e-6));
    }
}

#[test]
fn a_users_environment_ends_by_itself_or_at_its_limit() {
    use Phase::{Running, Terminated, Truncated};
    check_counter(&[1.0, 2.0, 5.0, 1.0], &[Running, Terminated, Truncated, Running]);
    check_counter(
        &[0.0; 9],
        &[Running, Running, Running, Truncated, Running, Running, Running, Truncated, Running],
    );
}

#[test]
fn a_goal_reached_at_the_limit_is_a_goal() {
    use Phase::{Running, Terminated};
    check_counter(&[1.0, 0.0, 0.0, 2.0], &[Running, Running, Running, Terminated]);
}

/// An environment that has spaces and nothing else.
struct Spaces(Space, Space);

impl Env<Array1<f32>, Array1<f32>> for Spaces {
    fn observation_space(&self) -> Space {
        self.0.clone()
    }

    fn action_space(&self) -> Space {
        self.1.clone()
    }

    fn reset(&mut self, _seed: Option<i32>, _options: Options) -> (Array1<f32>, Info) {
        (array![0.0], HashMap::new())
    }

    fn step(&mut self, _action: Array1<f32>) -> (Array1<f32>, Reward, bool, bool, Info) {
        (array![0.0], 0.0, false, false, HashMap::new())
    }

    fn render(&self) -> Option<Array3<u8>> {
        None
    }

    fn close(&mut self) {}
}

#[track_caller]
fn check_refused(spaces: Spaces, sentence: &str) {
    let error: EnvError = GymnasiumTask::new("Odd-v0", 10, spaces).err().expect("it is refused");
    assert_eq!(error.to_string(), sentence);
}

#[test]
fn spaces_that_rows_cannot_hold_are_refused() {
    let shown = Space::Box { low: array![0.0], high: array![1.0] };
    check_refused(
        Spaces(Space::Discrete(3), Space::Discrete(2)),
        "the observation space of `Odd-v0` is Discrete(3); it must be a box of at least one dimension",
    );
    check_refused(
        Spaces(shown.clone(), Space::Discrete(0)),
        "the action space of `Odd-v0` is Discrete(0); it must be discrete, or a box with finite bounds",
    );
    let endless = Space::Box { low: array![0.0], high: array![f32::INFINITY] };
    let sentence = format!(
        "the action space of `Odd-v0` is {endless:?}; it must be discrete, or a box with finite bounds"
    );
    check_refused(Spaces(shown, endless), &sentence);
}
