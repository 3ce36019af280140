//! An environment that nobody looks at any more stands still, and its neighbours play on as if it did not.

use eva_rl_envs::{BridgeSettings, Kwargs, Phase, StepBatch, VecEnv, make_halves};

const NUM_ENVS: usize = 6;
const STEPS: usize = 60;

/// What a step showed of one environment.
#[derive(Clone, Debug, PartialEq)]
struct Shown {
    observation: Vec<f32>,
    pixels: Vec<u8>,
    reward: f32,
    phase: Phase,
}

/// Plays, and leaves the environments in `retired` after a third of the steps: `[steps][environments]`.
fn play(env: &mut dyn VecEnv, retired: &[usize]) -> Vec<Vec<Shown>> {
    let mut batch = StepBatch::new(env.spec(), NUM_ENVS);
    env.reset(4, &mut batch.observations).unwrap();
    let width = env.spec().observation_width();
    let mut all = Vec::new();
    for step in 0..STEPS {
        if step == STEPS / 3 {
            retired.iter().for_each(|row| env.retire(*row));
        }
        let actions: Vec<f32> = (0..NUM_ENVS).map(|row| ((step + row) / 3 % 2) as f32).collect();
        env.step(&actions, &mut batch).unwrap();
        let shown = |row: usize| Shown {
            observation: batch.observations[row * width..][..width].to_vec(),
            pixels: env.pixels(row).to_vec(),
            reward: batch.rewards[row],
            phase: batch.phases[row],
        };
        all.push((0..NUM_ENVS).map(shown).collect());
    }
    all
}

#[test]
fn what_is_retired_stands_still_until_episodes_begin_again() {
    for id in ["CartPole-v1", "gymnasium:CartPole-v1", "envpool:CartPole-v1", "envpool:Breakout-v5"] {
        let settings = BridgeSettings { images: true, processes: 2, ..BridgeSettings::default() };
        let mut env = make_halves(id, &Kwargs::new(), NUM_ENVS, &settings).unwrap();
        let expected = play(env.as_mut(), &[]);
        let ended = expected.iter().flatten().filter(|shown| shown.phase != Phase::Running).count();
        assert!(ended > 0 || id.ends_with("v5"), "{id}: no episode ended");
        for retired in [&[0, 4][..], &[0, 1, 2], &[0, 1, 2, 3, 4, 5]] {
            let found = play(env.as_mut(), retired);
            for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
                for row in (0..NUM_ENVS).filter(|row| step < STEPS / 3 || !retired.contains(row)) {
                    assert_eq!(found[row], expected[row], "{id}: environment {row} at step {step}");
                }
            }
            let (before, last) = (&found[STEPS / 3 - 1], &found[STEPS - 1]);
            for row in retired.iter().copied() {
                let still = Shown { reward: 0.0, phase: Phase::Running, ..before[row].clone() };
                assert_eq!(last[row], still, "{id}: environment {row}");
            }
        }
    }
}
