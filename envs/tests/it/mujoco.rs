//! The MuJoCo tasks against what Gymnasium 1.4 recorded (`tools/golden_mujoco.py`), step by step.

use std::collections::HashMap;
use std::path::PathBuf;

use eva_rl_envs::mujoco::{self, MujocoTask, Rules};
use eva_rl_envs::{Kwargs, NativeTask, Phase, Task};
use safetensors::SafeTensors;

const TOLERANCE: f64 = 1e-9;

/// What Gymnasium did in one play.
struct Play {
    kwargs: Kwargs,
    state: Vec<f64>,
    start: Vec<f64>,
    actions: Vec<f32>,
    /// One row in every so many steps.
    observations: Vec<f64>,
    rewards: Vec<f64>,
    terminated: Vec<u8>,
}

/// The plays of a task, and what Gymnasium says of it.
fn recorded(id: &str) -> (Vec<Play>, HashMap<String, String>) {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/golden/mujoco/{id}.safetensors"));
    let bytes = std::fs::read(path).expect("the fixture is in the repository");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("the fixture is safetensors");
    let metadata = header.metadata().clone().expect("the fixture has metadata");
    let tensors = SafeTensors::deserialize(&bytes).expect("the fixture is safetensors");

    let kwargs: Vec<Kwargs> = serde_json::from_str(&metadata["kwargs"]).expect("kwargs are tables");
    let plays = kwargs.into_iter().enumerate().map(|(i, kwargs)| {
        let bytes = |name: &str| tensors.tensor(&format!("{i}.{name}")).expect("a play is whole").data();
        let floats = |name: &str| {
            let (numbers, _) = bytes(name).as_chunks::<8>();
            numbers.iter().map(|number| f64::from_le_bytes(*number)).collect::<Vec<_>>()
        };
        let (actions, _) = bytes("actions").as_chunks::<4>();
        Play {
            kwargs,
            state: [floats("qpos"), floats("qvel")].concat(),
            start: floats("start"),
            actions: actions.iter().map(|number| f32::from_le_bytes(*number)).collect(),
            observations: floats("observations"),
            rewards: floats("rewards"),
            terminated: bytes("terminated").to_vec(),
        }
    });
    (plays.collect(), metadata)
}

#[track_caller]
fn check_close(place: &str, what: &str, ours: f64, theirs: f64) {
    let bound = TOLERANCE * theirs.abs().max(1.0);
    assert!((ours - theirs).abs() <= bound, "{place}: {what} {ours}, not {theirs}");
}

#[track_caller]
fn check<R: Rules>(id: &str, least_steps: usize) {
    let (plays, metadata) = recorded(id);
    assert_eq!(R::FACTS.id, id);
    assert_eq!(R::FACTS.max_episode_steps.to_string(), metadata["max_episode_steps"], "step limit");
    let threshold: Option<f64> = serde_json::from_str(&metadata["reward_threshold"]).expect("it is JSON");
    assert_eq!(R::FACTS.reward_threshold, threshold, "reward threshold");

    for (number, play) in plays.iter().enumerate() {
        let mut task = MujocoTask::<R>::new(&play.kwargs).expect("the kwargs are the task's");
        let width = task.spec().observation_width();
        assert_eq!(width, play.start.len(), "{id}, play {number}: width of the observation");
        let mut row = vec![0.0; width];
        let check_row = |place: &str, shown: &[f64], row: &[f32], theirs: &[f64]| {
            for (i, (shown, theirs)) in shown.iter().zip(theirs).enumerate() {
                check_close(place, &format!("number {i} is"), *shown, *theirs);
                assert_eq!(*shown as f32, row[i], "{place}");
            }
        };
        task.set_state(&play.state, &mut row);
        check_row(&format!("{id}, play {number}, start"), task.exact_observation(), &row, &play.start);

        let steps = play.rewards.len();
        assert!(number > 0 || steps >= least_steps);
        let every = steps * width / play.observations.len();
        let actions = play.actions.chunks_exact(play.actions.len() / steps);
        for (step, action) in actions.enumerate() {
            let place = format!("{id}, play {number}, step {step}");
            let stepped = task.step(action, &mut row);
            check_close(&place, "it earns", task.exact_reward(), play.rewards[step]);
            assert_eq!(stepped.reward, task.exact_reward() as f32, "{place}");
            assert_eq!(stepped.phase == Phase::Terminated, play.terminated[step] == 1, "{place}: terminated");
            if (step + 1) % every == 0 {
                let theirs = &play.observations[(step / every) * width..][..width];
                check_row(&place, task.exact_observation(), &row, theirs);
            }
        }
    }
}

#[test]
fn ant_is_gymnasiums() {
    check::<mujoco::Ant>("Ant-v5", 200);
}

#[test]
fn half_cheetah_is_gymnasiums() {
    check::<mujoco::HalfCheetah>("HalfCheetah-v5", 200);
}

#[test]
fn hopper_is_gymnasiums() {
    check::<mujoco::Hopper>("Hopper-v5", 200);
}

#[test]
fn humanoid_is_gymnasiums() {
    check::<mujoco::Humanoid>("Humanoid-v5", 200);
}

#[test]
fn humanoid_standup_is_gymnasiums() {
    check::<mujoco::HumanoidStandup>("HumanoidStandup-v5", 200);
}

#[test]
fn inverted_double_pendulum_is_gymnasiums() {
    check::<mujoco::InvertedDoublePendulum>("InvertedDoublePendulum-v5", 200);
}

#[test]
fn inverted_pendulum_is_gymnasiums() {
    check::<mujoco::InvertedPendulum>("InvertedPendulum-v5", 200);
}

#[test]
fn pusher_is_gymnasiums() {
    check::<mujoco::Pusher>("Pusher-v5", 200);
}

#[test]
fn reacher_is_gymnasiums() {
    check::<mujoco::Reacher>("Reacher-v5", 200);
}

#[test]
fn swimmer_is_gymnasiums() {
    check::<mujoco::Swimmer>("Swimmer-v5", 200);
}

#[test]
fn walker2d_is_gymnasiums() {
    check::<mujoco::Walker2d>("Walker2d-v5", 200);
}
