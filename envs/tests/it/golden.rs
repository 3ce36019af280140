//! Native tasks against what Gymnasium 1.4 recorded (`tools/golden/golden_envs.py`), step by step.

use std::path::PathBuf;

use eva_rl_envs::{Kwargs, Phase, spec, task};
use serde_json::Value;

const TOLERANCE: f64 = 1e-6;

#[track_caller]
fn check(id: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/classic/{id}.json"));
    let text = std::fs::read_to_string(&path).expect("the fixture is in the repository");
    let recorded: Value = serde_json::from_str(&text).expect("the fixture is JSON");

    let ours = spec(id, &Kwargs::new()).expect("the task is native");
    assert_eq!(u64::from(ours.max_episode_steps), recorded["max_episode_steps"], "step limit");
    assert_eq!(ours.reward_threshold, recorded["reward_threshold"].as_f64(), "reward threshold");

    for (number, episode) in array(&recorded["episodes"]).iter().enumerate() {
        check_episode(id, number, ours.max_episode_steps, episode);
    }
}

#[track_caller]
fn check_episode(id: &str, number: usize, limit: u32, episode: &Value) {
    let kwargs: Kwargs = serde_json::from_value(episode["kwargs"].clone()).expect("kwargs are a table");
    let mut task = task(id, &kwargs).expect("the kwargs are the task's");
    let mut observation = vec![0.0; task.spec().observation_width()];

    for (step, action) in array(&episode["actions"]).iter().enumerate() {
        let place = format!("{id}, episode {number}, step {step}");
        if let Some(placement) = array(&episode["placements"]).iter().find(|it| it[0] == step) {
            task.set_state(&floats(&placement[1]), &mut observation);
        }
        let action: Vec<f32> = floats(action).iter().map(|x| *x as f32).collect();
        let stepped = task.step(&action, &mut observation);

        for (ours, theirs) in observation.iter().zip(floats(&episode["observations"][step])) {
            assert!((f64::from(*ours) - theirs).abs() <= TOLERANCE, "{place}: shows {ours}, not {theirs}");
        }
        let (ours, theirs) = (f64::from(stepped.reward), float(&episode["rewards"][step]));
        let bound = TOLERANCE * theirs.abs().max(1.0);
        assert!((ours - theirs).abs() <= bound, "{place}: earns {ours}, not {theirs}");

        // Gymnasium reports a goal and a limit apart, even in one step.
        let terminated = array(&episode["terminated"]).iter().any(|it| *it == step);
        assert_eq!(stepped.phase == Phase::Terminated, terminated, "{place}: terminated");
        let truncated = array(&episode["truncated"]).iter().any(|it| *it == step);
        assert_eq!(step + 1 >= limit as usize, truncated, "{place}: truncated");
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().expect("the fixture has an array here")
}

fn float(value: &Value) -> f64 {
    value.as_f64().expect("the fixture has a number here")
}

fn floats(value: &Value) -> Vec<f64> {
    array(value).iter().map(float).collect()
}

#[test]
fn cart_pole_is_gymnasiums() {
    check("CartPole-v1");
}

#[test]
fn pendulum_is_gymnasiums_under_two_gravities() {
    check("Pendulum-v1");
}

#[test]
fn mountain_car_is_gymnasiums() {
    check("MountainCar-v0");
}

#[test]
fn continuous_mountain_car_is_gymnasiums() {
    check("MountainCarContinuous-v0");
}

#[test]
fn acrobot_is_gymnasiums() {
    check("Acrobot-v1");
}
