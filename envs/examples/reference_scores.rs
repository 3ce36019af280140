//! Measures the returns that normalised scores refer to: random play, and the scripted controller.
//!
//! `cargo run --release -p eva-rl-envs --example reference_scores`

#[path = "../tests/it/play.rs"]
mod play;

use eva_rl_envs::{Kwargs, scripted};
use play::{MEASURED, Random, episodes, mean};
use serde_json::json;

const EPISODES: usize = 10_000;

fn main() {
    // MuJoCo's tasks have others' reference scores.
    MEASURED.iter().for_each(|id| measure(id, &Kwargs::new()));
    measure("CartPole-v1", &Kwargs::from([("sutton_barto_reward".to_owned(), json!(true))]));
    for g in 1..=16 {
        measure("Pendulum-v1", &Kwargs::from([("g".to_owned(), json!(g))]));
    }
}

fn measure(id: &str, kwargs: &Kwargs) {
    let mut controller = scripted(id, kwargs).expect("the id is native");
    let random = mean(&episodes(id, kwargs, &mut Random::new(id, kwargs, 0), EPISODES));
    let expert = mean(&episodes(id, kwargs, controller.as_mut(), EPISODES));
    println!("{id} {}: random {random:.1}, expert {expert:.1}", json!(kwargs));
}
