//! The scripted players of Atari games are worth imitating.

use eva_rl_envs::{BridgeSettings, Kwargs, StepBatch, make_with, scripted_with};
use serde_json::json;

const NUM_ENVS: usize = 4;

/// The returns of a player's first steps, one for each environment.
fn returns(id: &str, steps: usize) -> Vec<f32> {
    let (kwargs, settings) = (Kwargs::new(), BridgeSettings { images: true, ..BridgeSettings::default() });
    let mut pool = make_with(id, &kwargs, NUM_ENVS, &settings).unwrap();
    let mut player = scripted_with(id, &kwargs, NUM_ENVS, &settings).unwrap();
    let mut batch = StepBatch::new(pool.spec(), NUM_ENVS);
    pool.reset(3, &mut batch.observations).unwrap();
    let (mut actions, mut returns) = (vec![0.0; NUM_ENVS], vec![0.0; NUM_ENVS]);
    for _ in 0..steps {
        let pixels = (0..NUM_ENVS).flat_map(|env| pool.pixels(env).to_vec()).collect::<Vec<u8>>();
        player.act_rows(NUM_ENVS, &batch.observations, &pixels, &mut actions).unwrap();
        pool.step(&actions, &mut batch).unwrap();
        for (sum, reward) in returns.iter_mut().zip(&batch.rewards) {
            *sum += reward;
        }
    }
    returns
}

/// Random play loses a point in some forty steps.
#[test]
fn pong_is_won() {
    let returns = returns("envpool:Pong-v5", 1500);
    assert!(returns.iter().sum::<f32>() >= 8.0, "{returns:?}");
}

/// Random play earns 1.7 in a whole game.
#[test]
fn bricks_are_cleared() {
    let returns = returns("envpool:Breakout-v5", 1000);
    assert!(returns.iter().sum::<f32>() >= 160.0, "{returns:?}");
}

#[test]
fn other_frames_are_refused_by_name() {
    let kwargs = Kwargs::from([("img_height".to_owned(), json!(64))]);
    let refused = scripted_with("envpool:Breakout-v5", &kwargs, 1, &BridgeSettings::default()).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "kwarg `img_height` of `envpool:Breakout-v5` is 64; it must be its default, because the scripted player knows no \
         other frames"
    );
}
