//! The scripted controllers are worth imitating.

use eva_rl_envs::{Kwargs, Phase, scripted, spec};
use serde_json::json;

use crate::play::{Episode, MEASURED, Random, episodes, mean};

fn play(id: &str, kwargs: &Kwargs) -> Vec<Episode> {
    let mut controller = scripted(id, kwargs).expect("the id is native");
    episodes(id, kwargs, controller.as_mut(), 500)
}

#[track_caller]
fn check(id: &str, end: Phase, least_mean: f64) {
    let played = play(id, &Kwargs::new());
    assert!(played.iter().all(|episode| episode.end == end), "{id}: not every episode was {end:?}");
    assert!(mean(&played) > least_mean, "{id}: mean return {}", mean(&played));
}

#[test]
fn the_pole_never_falls() {
    check("CartPole-v1", Phase::Truncated, 499.9);
}

#[test]
fn the_car_always_arrives() {
    check("MountainCar-v0", Phase::Terminated, -108.0);
}

#[test]
fn the_thrifty_car_always_arrives() {
    check("MountainCarContinuous-v0", Phase::Terminated, 95.0);
}

#[test]
fn the_links_always_swing_up() {
    check("Acrobot-v1", Phase::Terminated, -82.0);
}

#[test]
fn the_pendulum_swings_up_soon() {
    check("Pendulum-v1", Phase::Truncated, -165.0);
}

#[test]
fn the_pendulum_stands_under_every_gravity_that_its_motor_can_beat() {
    for g in 1..=16 {
        let played = play("Pendulum-v1", &Kwargs::from([("g".to_owned(), json!(g))]));
        let upright = played.iter().filter(|episode| episode.last[0] > 0.98 && episode.last[2].abs() < 0.5);
        // Under a gravity of 4 the motor just balances a level rod, and a few are still rising.
        assert!(upright.count() >= 495, "g = {g}, mean return {}", mean(&played));
    }
}

/// Holds the reference scores against a shorter measurement, of 500 episodes for 10,000.
#[track_caller]
fn check_reference(id: &str, kwargs: &Kwargs) {
    let reference = spec(id, kwargs).expect("the id is native").reference.expect("it was measured");
    let scale = reference.expert - reference.random;
    let random = mean(&episodes(id, kwargs, &mut Random::new(id, kwargs, 3), 500));
    assert!((random - reference.random).abs() < 0.05 * scale, "{id} {kwargs:?}: random {random}");
    let expert = mean(&play(id, kwargs));
    assert!((expert - reference.expert).abs() < 0.05 * scale, "{id} {kwargs:?}: expert {expert}");
}

#[test]
fn reference_scores_can_be_measured_again() {
    MEASURED.iter().for_each(|id| check_reference(id, &Kwargs::new()));
    check_reference("CartPole-v1", &Kwargs::from([("sutton_barto_reward".to_owned(), json!(true))]));
    for g in 1..=16 {
        check_reference("Pendulum-v1", &Kwargs::from([("g".to_owned(), json!(g))]));
    }
}

#[test]
fn cars_that_must_arrive_fast_still_arrive() {
    for id in ["MountainCar-v0", "MountainCarContinuous-v0"] {
        let played = play(id, &Kwargs::from([("goal_velocity".to_owned(), json!(0.02))]));
        assert!(played.iter().all(|episode| episode.end == Phase::Terminated), "{id}: {}", mean(&played));
    }
}

/// Holds a gait to what it earns in EnvPool, as its file says, over 100 episodes for 200.
#[cfg(feature = "mujoco")]
#[track_caller]
fn check_gait(id: &str, theirs: f64, bound: f64) {
    let none = Kwargs::new();
    let mut gait = scripted(id, &none).expect("the task has a gait");
    let ours = mean(&episodes(id, &none, gait.as_mut(), 100));
    assert!((ours - theirs).abs() < bound, "{id}: mean return {ours}, not {theirs}");
}

// The bounds are four deviations of the difference of the two means.
#[cfg(feature = "mujoco")]
#[test]
fn gaits_earn_here_what_they_earn_in_envpool() {
    check_gait("Hopper-v5", 1120.0, 37.0);
    check_gait("HalfCheetah-v5", 1567.0, 14.0);
    check_gait("Walker2d-v5", 1838.0, 62.0);
}

#[cfg(feature = "mujoco")]
#[test]
fn a_gait_is_no_controller_of_other_observations() {
    let shown = Kwargs::from([("exclude_current_positions_from_observation".to_owned(), json!(false))]);
    assert!(scripted("Hopper-v5", &shown).is_err());
}
