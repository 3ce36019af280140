//! The scripted players of Atari games are worth imitating, with sticky actions, which tell games apart.

use eva_rl_envs::{BridgeSettings, Kwargs, Phase, StepBatch, make_with, scripted_with};
use serde_json::{Value, json};

const NUM_ENVS: usize = 8;

/// Rewards above and below 0 of each environment's first game, or of its first steps.
fn counts(id: &str, steps: usize, kwargs: &[(&str, Value)]) -> [(usize, usize); NUM_ENVS] {
    let mut kwargs: Kwargs = kwargs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    kwargs.insert("repeat_action_probability".to_owned(), json!(0.25));
    let settings = BridgeSettings { images: true, ..BridgeSettings::default() };
    let mut pool = make_with(id, &kwargs, NUM_ENVS, &settings).unwrap();
    let mut player = scripted_with(id, &kwargs, NUM_ENVS, &settings).unwrap();
    let mut batch = StepBatch::new(pool.spec(), NUM_ENVS);
    pool.reset(3, &mut batch.observations).unwrap();
    let (mut actions, mut counts, mut over) = ([0.0; NUM_ENVS], [(0, 0); NUM_ENVS], [false; NUM_ENVS]);
    for _ in 0..steps {
        let pixels = (0..NUM_ENVS).flat_map(|env| pool.pixels(env).to_vec()).collect::<Vec<u8>>();
        player.act_rows(NUM_ENVS, &batch.observations, &pixels, &mut actions).unwrap();
        pool.step(&actions, &mut batch).unwrap();
        for (env, reward) in batch.rewards.iter().enumerate().filter(|(env, _)| !over[*env]) {
            counts[env].0 += usize::from(*reward > 0.0);
            counts[env].1 += usize::from(*reward < 0.0);
        }
        for (over, phase) in over.iter_mut().zip(&batch.phases) {
            *over |= *phase != Phase::Running;
        }
    }
    counts
}

#[test]
fn most_points_of_pong_are_won() {
    let counts = counts("envpool:Pong-v5", 2500, &[]);
    let won: usize = counts.iter().map(|(won, _)| won).sum();
    let lost: usize = counts.iter().map(|(_, lost)| lost).sum();
    assert!(won >= 24 && won > lost + 8, "{won} points were won and {lost} lost: {counts:?}");
}

#[test]
fn a_game_of_breakout_clears_a_third_of_the_bricks() {
    let counts = counts("envpool:Breakout-v5", 2500, &[]);
    let bricks: usize = counts.iter().map(|(bricks, _)| bricks).sum();
    assert!(bricks >= NUM_ENVS * 108 / 3, "{counts:?}");
}

#[test]
fn changed_frames_and_all_actions_change_no_game() {
    for id in ["envpool:Pong-v5", "envpool:Breakout-v5"] {
        let usual = counts(id, 400, &[]);
        let changed = [
            ("invert_frames", json!(true)),
            ("shift_frames", json!(10)),
            ("shift_frames", json!(-90)),
            ("full_action_space", json!(true)),
        ];
        for kwarg in changed {
            assert_eq!(counts(id, 400, std::slice::from_ref(&kwarg)), usual, "{id}, {kwarg:?}");
        }
        assert!(usual.iter().any(|(won, lost)| won + lost > 0), "{id}: {usual:?}");
    }
}

#[test]
fn shifted_frames_are_the_usual_ones_moved_down() {
    let first = |shift: i64| {
        let kwargs = Kwargs::from([("shift_frames".to_owned(), json!(shift))]);
        let settings = BridgeSettings { images: true, ..BridgeSettings::default() };
        let mut pool = make_with("envpool:Breakout-v5", &kwargs, 1, &settings).unwrap();
        pool.reset(3, &mut vec![0.0; pool.spec().observation_width()]).unwrap();
        pool.pixels(0).to_vec()
    };
    let (usual, shifted) = (first(0), first(10));
    for (usual, shifted) in usual.chunks(84 * 84).zip(shifted.chunks(84 * 84)) {
        assert_eq!(shifted[10 * 84..], usual[..74 * 84]);
        assert_eq!(shifted[..10 * 84], usual[74 * 84..]);
    }
    assert_ne!(usual, shifted);
}

#[test]
fn changed_frames_are_shown_of_atari_alone() {
    for (id, name, asked, sentence) in [
        ("envpool:Pong-v5", "invert_frames", json!(3), "invert_frames is 3, expected true or false"),
        (
            "envpool:Pong-v5",
            "shift_frames",
            json!(true),
            "shift_frames is true, expected a whole number of rows",
        ),
        (
            "envpool:CartPole-v1",
            "invert_frames",
            json!(true),
            "invert_frames is true, and only Atari's games can be shown so",
        ),
        (
            "envpool:CartPole-v1",
            "shift_frames",
            json!(4),
            "shift_frames is 4, and only Atari's games can be shown so",
        ),
    ] {
        let kwargs = Kwargs::from([(name.to_owned(), asked)]);
        let refused = make_with(id, &kwargs, 1, &BridgeSettings::default()).err().unwrap().to_string();
        assert!(refused.ends_with(sentence), "{refused}");
    }
}

#[test]
fn other_frames_are_refused_by_name() {
    let ask = |name: &str, value| {
        let kwargs = Kwargs::from([(name.to_owned(), value)]);
        scripted_with("envpool:Breakout-v5", &kwargs, 1, &BridgeSettings::default())
            .err()
            .map(|refused| refused.to_string())
    };
    assert_eq!(
        ask("img_height", json!(64)).unwrap(),
        "kwarg `img_height` of `envpool:Breakout-v5` is 64; it must be EnvPool's default, because the scripted player \
         knows no other frames"
    );
    for (name, default) in [("img_height", json!(84)), ("stack_num", json!(4)), ("gray_scale", json!(true))] {
        assert_eq!(ask(name, default), None, "{name}");
    }
}
