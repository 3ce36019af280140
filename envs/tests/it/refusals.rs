//! What a user asks for wrongly is refused in one sentence, and moves nothing.

use eva_rl_envs::{EnvError, Kwargs, StepBatch, make, spec};
use serde_json::json;

#[track_caller]
fn check<T>(refused: Result<T, EnvError>, sentence: &str) {
    let error = refused.err().expect("it is refused");
    assert_eq!(error.to_string(), sentence);
}

#[track_caller]
fn check_kwarg(id: &str, name: &str, value: serde_json::Value, sentence: &str) {
    check(spec(id, &Kwargs::from([(name.to_owned(), value)])), sentence);
}

/// Acts in a pool of three, and checks that a refusal leaves it where it was.
#[track_caller]
fn check_actions(id: &str, actions: [f32; 3], sentence: &str) {
    let mut pool = make(id, &Kwargs::new(), 3).expect("the id is native");
    let mut batch = StepBatch::new(pool.spec(), 3);
    pool.reset(0, &mut batch.observations).expect("a native pool resets");
    let before = batch.clone();
    check(pool.step(&actions, &mut batch), sentence);
    assert_eq!(batch, before);

    let mut fresh = make(id, &Kwargs::new(), 3).expect("the id is native");
    let mut untouched = before;
    fresh.reset(0, &mut untouched.observations).expect("a native pool resets");
    fresh.step(&[1.0; 3], &mut untouched).expect("the actions are in bounds");
    pool.step(&[1.0; 3], &mut batch).expect("the actions are in bounds");
    assert_eq!(batch, untouched);
}

#[test]
fn a_misspelt_id_gets_the_nearest() {
    check(
        spec("CartPol-v1", &Kwargs::new()),
        "unknown environment `CartPol-v1`; the nearest native ones are `CartPole-v1`, `Acrobot-v1`, `Pendulum-v1`; those of Gymnasium and EnvPool run in Python, after `make bridge`: `gymnasium:CartPol-v1`, `envpool:CartPol-v1`",
    );
}

#[test]
fn an_unknown_kwarg_gets_the_known_ones() {
    check_kwarg("Pendulum-v1", "gravity", json!(9.8), "`Pendulum-v1` has no kwarg `gravity`; it takes `g`");
    check_kwarg("Acrobot-v1", "g", json!(9.8), "`Acrobot-v1` has no kwarg `g`; it takes none");
}

#[test]
fn a_kwarg_of_the_wrong_type_is_shown() {
    check_kwarg(
        "Pendulum-v1",
        "g",
        json!("ten"),
        "kwarg `g` of `Pendulum-v1` is \"ten\"; it must be a number",
    );
    check_kwarg(
        "CartPole-v1",
        "sutton_barto_reward",
        json!(1),
        "kwarg `sutton_barto_reward` of `CartPole-v1` is 1; it must be true or false",
    );
}

#[test]
fn an_empty_pool_is_refused() {
    check(
        make("CartPole-v1", &Kwargs::new(), 0),
        "a pool of `CartPole-v1` has 0 environments; it must have at least 1",
    );
}

#[test]
fn a_discrete_action_is_an_index() {
    check_actions(
        "CartPole-v1",
        [0.0, 1.0, 2.0],
        "the action of environment 2 is 2; it must be an integer from 0 to 1",
    );
    check_actions(
        "CartPole-v1",
        [0.0, 0.5, 1.0],
        "the action of environment 1 is 0.5; it must be an integer from 0 to 1",
    );
    check_actions(
        "MountainCar-v0",
        [-1.0, 0.0, 0.0],
        "the action of environment 0 is -1; it must be an integer from 0 to 2",
    );
    check_actions(
        "Acrobot-v1",
        [0.0, f32::NAN, 0.0],
        "the action of environment 1 is NaN; it must be an integer from 0 to 2",
    );
}

#[test]
fn a_continuous_action_is_within_its_bounds() {
    check_actions(
        "Pendulum-v1",
        [0.0, 2.0, -2.001],
        "dimension 0 of the action of environment 2 is -2.001; it must lie in [-2, 2]",
    );
    check_actions(
        "Pendulum-v1",
        [f32::NAN, 0.0, 0.0],
        "dimension 0 of the action of environment 0 is NaN; it must lie in [-2, 2]",
    );
}

#[test]
fn rounding_at_a_bound_is_forgiven() {
    let mut pool = make("Pendulum-v1", &Kwargs::new(), 1).expect("the id is native");
    let mut batch = StepBatch::new(pool.spec(), 1);
    pool.reset(0, &mut batch.observations).expect("a native pool resets");
    pool.step(&[2.000_02], &mut batch).expect("the action is within the bounds, but for rounding");
}
