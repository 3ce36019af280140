//! What Gymnasium computed, computed here (fixtures by `tools/golden_envs.py`).

use std::fs;
use std::path::Path;

use eva_rl_envs::tasks::{Acrobot, CartPole, MountainCar, MountainCarContinuous, Native, Pendulum};
use eva_rl_envs::{Kwargs, Phase};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

#[track_caller]
fn assert_close(found: f64, expected: f64, what: &str) {
    let tolerance = 1e-6 * expected.abs().max(1.0);
    assert!((found - expected).abs() <= tolerance, "{what} is {found}, expected {expected}");
}

/// Steps the task from each state that Gymnasium passed through, and compares what comes next; then
/// runs the first `unaided` steps of each trajectory without putting the state right.
#[track_caller]
fn check<T: Native>(unaided: usize) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/envs").join(format!("{}.json", T::ID));
    let document: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    for trajectory in document["trajectories"].as_array().unwrap() {
        let options: Kwargs = serde_json::from_value(trajectory["options"].clone()).unwrap();
        let start = numbers(&trajectory["start"]);
        compare(T::new(&options).unwrap(), trajectory, &start, usize::MAX, true);
        compare(T::new(&options).unwrap(), trajectory, &start, unaided, false);
    }
    let task = T::new(&Kwargs::new()).unwrap();
    let spec = task.spec();
    assert_eq!(u64::from(spec.max_episode_steps), document["max_episode_steps"].as_u64().unwrap());
    assert_eq!(spec.reward_threshold, document["reward_threshold"].as_f64());
    for (found, bound) in
        [(&spec.observation_low, "observation_low"), (&spec.observation_high, "observation_high")]
    {
        for (found, expected) in found.iter().zip(document[bound].as_array().unwrap()) {
            let expected = expected.as_f64().map_or(f32::INFINITY.copysign(*found), |x| x as f32);
            assert_eq!(*found, expected, "{bound}");
        }
    }
}

#[track_caller]
fn compare<T: Native>(mut task: T, trajectory: &Value, start: &[f64], steps: usize, inject: bool) {
    let actions = trajectory["actions"].as_array().unwrap();
    let states = trajectory["states"].as_array().unwrap();
    let mut observation = vec![0.0; task.spec().observation_width()];
    task.set_state(start);
    for step in 0..actions.len().min(steps) {
        if inject && step > 0 {
            task.set_state(&numbers(&states[step - 1]));
        }
        let action: Vec<f32> = numbers(&actions[step]).iter().map(|x| *x as f32).collect();
        let found = task.step(&action, &mut observation);
        let place = format!("{} step {step} (injected: {inject}):", T::ID);
        for (found, expected) in observation.iter().zip(numbers(&trajectory["observations"][step])) {
            assert_close(f64::from(*found), expected, &format!("{place} observation"));
        }
        let reward = trajectory["rewards"][step].as_f64().unwrap();
        assert_close(f64::from(found.reward), reward, &format!("{place} reward"));
        let terminated = trajectory["terminated"][step].as_bool().unwrap();
        assert_eq!(found.phase == Phase::Terminated, terminated, "{place} terminated");
        // Truncation is the pool's; the fixture's comes at the limit and nowhere else.
        let truncated = trajectory["truncated"][step].as_bool().unwrap();
        assert_eq!(truncated, step + 1 == task.spec().max_episode_steps as usize, "{place} truncated");
    }
}

#[test]
fn cart_pole_steps_as_gymnasium_s() {
    check::<CartPole>(60);
}

#[test]
fn pendulum_steps_as_gymnasium_s_for_any_gravity() {
    check::<Pendulum>(200);
}

#[test]
fn mountain_car_steps_as_gymnasium_s() {
    check::<MountainCar>(200);
}

#[test]
fn mountain_car_continuous_steps_as_gymnasium_s_through_float32() {
    check::<MountainCarContinuous>(999);
}

#[test]
fn acrobot_steps_as_gymnasium_s() {
    check::<Acrobot>(25); // chaotic, so rounding grows past 1e-6 in longer runs
}
