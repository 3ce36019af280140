//! What every environment and every pool keeps, whatever the task.

use eva_rl_envs::{
    ActionSpace, BridgeSettings, Controller, EnvSpec, Episodes, Frame, Kwargs, Phase, StepBatch, Success,
    VecEnv, episode_rng, make, make_halves, scripted, specs,
};
use rand::Rng;
use rayon::ThreadPoolBuilder;

/// Everything that a pool showed, step by step.
#[derive(Debug, PartialEq)]
struct Trace {
    starts: Vec<f32>,
    steps: Vec<StepBatch>,
}

fn pool(id: &str, num_envs: usize) -> Box<dyn VecEnv> {
    make(id, &Kwargs::new(), num_envs).expect("the id is at hand")
}

/// Plays the same random actions for a seed, however often it is called.
fn play(id: &str, num_envs: usize, seed: u64, steps: usize) -> Trace {
    let mut pool = pool(id, num_envs);
    let mut batch = StepBatch::new(pool.spec(), num_envs);
    pool.reset(seed, &mut batch.observations).expect("a native pool resets");
    let starts = batch.observations.clone();

    let space = pool.spec().action.clone();
    let mut rng = episode_rng(seed, u64::MAX);
    let steps = (0..steps)
        .map(|_| {
            let actions: Vec<f32> = (0..num_envs).flat_map(|_| random_action(&space, &mut rng)).collect();
            pool.step(&actions, &mut batch).expect("the actions are in bounds");
            batch.clone()
        })
        .collect();
    Trace { starts, steps }
}

fn random_action(space: &ActionSpace, rng: &mut impl Rng) -> Vec<f32> {
    match space {
        ActionSpace::Discrete { n, .. } => vec![rng.gen_range(0..*n) as f32],
        ActionSpace::MultiDiscrete { counts, .. } => {
            counts.iter().map(|count| rng.gen_range(0..*count) as f32).collect()
        }
        ActionSpace::Box { low, high } => {
            low.iter().zip(high).map(|(low, high)| rng.gen_range(*low..=*high)).collect()
        }
    }
}

/// Fewer steps, or environments, where MuJoCo makes each a hundred times as dear.
fn affordable(spec: &EnvSpec, count: usize) -> usize {
    if spec.id.ends_with("-v5") { count.div_ceil(100) } else { count }
}

/// Holds `law` against every native environment.
#[track_caller]
fn check(law: impl Fn(&EnvSpec)) {
    let specs = specs();
    assert!(!specs.is_empty());
    specs.iter().for_each(law);
}

/// Holds `law` against environments in Python workers too.
#[track_caller]
fn check_bridged_too(law: impl Fn(&EnvSpec)) {
    check(&law);
    for id in BRIDGED {
        law(pool(id, 1).spec());
    }
}

/// Of each library one that ends and one that is cut, discrete and continuous.
const BRIDGED: [&str; 5] = [
    "gymnasium:CartPole-v1",
    "gymnasium:Pendulum-v1",
    "envpool:CartPole-v1",
    "envpool:Pendulum-v1",
    "envpool:FrozenLake-v1",
];

#[test]
fn a_seed_is_a_trajectory() {
    check_bridged_too(|spec| {
        assert_eq!(play(&spec.id, 3, 7, 300), play(&spec.id, 3, 7, 300), "{}", spec.id);
        assert_ne!(play(&spec.id, 3, 7, 3), play(&spec.id, 3, 8, 3), "{}", spec.id);
    });
}

/// Holds 500 random steps against a fingerprint of their bits.
#[track_caller]
fn check_fingerprint(id: &str, expected: u64) {
    let trace = play(id, 4, 1, 500);
    let shown = trace.steps.iter().flat_map(|step| step.observations.iter().chain(&step.rewards));
    let fingerprint = shown.fold(0_u64, |hash, value| {
        (hash ^ u64::from(value.to_bits())).wrapping_mul(0x100_0000_01b3).rotate_left(17)
    });
    assert_eq!(fingerprint, expected, "{id}: {fingerprint:#018x}");
}

#[test]
fn a_trajectory_is_the_same_on_every_machine() {
    check_fingerprint("CartPole-v1", 0x6c31_9040_c913_f06c);
    check_fingerprint("Pendulum-v1", 0x62e4_df95_2919_8049);
    check_fingerprint("MountainCar-v0", 0x0aec_f4bf_1c77_0561);
    check_fingerprint("MountainCarContinuous-v0", 0x1fbd_fa9a_2393_5cea);
    check_fingerprint("Acrobot-v1", 0xbc50_0c17_7d52_5ce5);
}

#[test]
fn threads_change_nothing() {
    check(|spec| {
        let with_threads = |threads| {
            let rayon = ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
            rayon.install(|| play(&spec.id, affordable(spec, 3000), 5, 40))
        };
        let alone = with_threads(1);
        assert_eq!(alone, with_threads(2), "{}", spec.id);
        assert_eq!(alone, with_threads(5), "{}", spec.id);
    });
}

/// The starts of the first `count` episodes, by their number, in a pool of `num_envs`.
fn starts(spec: &EnvSpec, num_envs: usize, count: usize) -> Vec<Option<Vec<f32>>> {
    let width = spec.observation_width();
    let trace = play(&spec.id, num_envs, 11, 2 * spec.max_episode_steps as usize + 1);
    let mut next: Vec<usize> = (0..num_envs).collect();
    let mut starts = vec![None; count.max(num_envs)];
    for (env, start) in trace.starts.chunks_exact(width).enumerate() {
        starts[env] = Some(start.to_vec());
    }
    for step in &trace.steps {
        for env in (0..num_envs).filter(|env| step.phases[*env] != Phase::Running) {
            next[env] += num_envs;
            if next[env] < count {
                starts[next[env]] = Some(step.observations[env * width..][..width].to_vec());
            }
        }
    }
    starts.truncate(count);
    starts
}

#[test]
fn an_episode_starts_the_same_however_many_environments_share_the_work() {
    let law = |spec: &EnvSpec| {
        let wide = starts(spec, 6, 6);
        for num_envs in [1, 2, 3, 4] {
            let narrow = starts(spec, num_envs, 6);
            let seen = wide.iter().zip(&narrow).filter(|(_, narrow)| narrow.is_some());
            assert!(seen.clone().count() > num_envs, "{}: no environment began anew", spec.id);
            seen.for_each(|(wide, narrow)| assert_eq!(wide, narrow, "{}", spec.id));
        }
    };
    check(law);
    // EnvPool takes no seed per episode.
    for id in BRIDGED.iter().filter(|id| id.starts_with("gymnasium:")) {
        law(pool(id, 1).spec());
    }
}

#[test]
fn observations_and_rewards_are_finite_and_within_their_space() {
    check_bridged_too(|spec| {
        let width = spec.observation_width();
        for step in play(&spec.id, 4, 3, 1200).steps {
            assert!(step.rewards.iter().all(|reward| reward.is_finite()), "{}", spec.id);
            for row in
                step.observations.chunks_exact(width).chain(step.final_observations.chunks_exact(width))
            {
                for (dimension, value) in row.iter().enumerate() {
                    let (low, high) = (spec.observation_low[dimension], spec.observation_high[dimension]);
                    assert!(value.is_finite() && low <= *value && *value <= high, "{}: {row:?}", spec.id);
                }
            }
        }
    });
}

#[test]
fn an_episode_is_truncated_at_its_limit_and_nowhere_else() {
    check_bridged_too(|spec| {
        let num_envs = 4;
        let mut ages = vec![0; num_envs];
        for step in play(&spec.id, num_envs, 3, 2100).steps {
            for (env, age) in ages.iter_mut().enumerate() {
                *age += 1;
                assert!(*age <= spec.max_episode_steps, "{}", spec.id);
                match step.phases[env] {
                    Phase::Running => assert_ne!(*age, spec.max_episode_steps, "{}", spec.id),
                    Phase::Truncated => assert_eq!(*age, spec.max_episode_steps, "{}", spec.id),
                    Phase::Terminated => {}
                    Phase::Lost => panic!("{}: nothing fails here", spec.id),
                }
                if step.phases[env] != Phase::Running {
                    *age = 0;
                }
            }
        }
    });
}

/// Steps a pool of one beside its own task, which knows nothing of limits or new episodes.
#[test]
fn a_new_episode_keeps_the_last_observation_of_the_old() {
    check(|spec| {
        let width = spec.observation_width();
        let mut task = eva_rl_envs::task(&spec.id, &Kwargs::new()).expect("the id is native");
        let mut shown = vec![0.0; width];
        task.reset(&mut episode_rng(2, 0), &mut shown);

        let mut pool = pool(&spec.id, 1);
        let mut batch = StepBatch::new(spec, 1);
        pool.reset(2, &mut batch.observations).expect("a native pool resets");
        assert_eq!(batch.observations, shown, "{}", spec.id);

        let mut episode = 0;
        let mut rng = episode_rng(1, 0);
        for _ in 0..2100 {
            let action = random_action(&spec.action, &mut rng);
            pool.step(&action, &mut batch).expect("the action is in bounds");
            task.step(&action, &mut shown);
            if batch.phases[0] != Phase::Running {
                assert_eq!(batch.final_observations, shown, "{}", spec.id);
                episode += 1;
                task.reset(&mut episode_rng(2, episode), &mut shown);
            }
            assert_eq!(batch.observations, shown, "{}", spec.id);
        }
        assert!(episode > 1, "{}", spec.id);
    });
}

#[test]
fn a_success_can_happen_and_is_of_the_phase_that_the_contract_names() {
    check(|spec| {
        let wanted = match spec.success {
            Success::Undefined => return,
            Success::Terminated => Phase::Terminated,
            Success::Truncated => Phase::Truncated,
            Success::Info { .. } => panic!("{}: no native task gives infos", spec.id),
        };
        let mut controller = scripted(&spec.id, &Kwargs::new()).expect("the id is native");
        assert_eq!(first_end(&spec.id, controller.as_mut()), wanted, "{}", spec.id);
    });
}

fn first_end(id: &str, controller: &mut dyn Controller) -> Phase {
    let mut pool = pool(id, 1);
    let mut batch = StepBatch::new(pool.spec(), 1);
    let mut action = vec![0.0; pool.spec().action.width()];
    pool.reset(0, &mut batch.observations).expect("a native pool resets");
    loop {
        controller.act(&batch.observations, &mut action);
        pool.step(&action, &mut batch).expect("the action is in bounds");
        if batch.phases[0] != Phase::Running {
            return batch.phases[0];
        }
    }
}

#[test]
fn a_picture_shows_the_state() {
    check(|spec| {
        let mut pool = pool(&spec.id, 2);
        let mut batch = StepBatch::new(spec, 2);
        pool.reset(0, &mut batch.observations).expect("a native pool resets");
        let [first, second] = [0, 1].map(|env| picture(pool.as_mut(), env));
        assert_eq!(first.rgb.len(), first.width * first.height * 3, "{}", spec.id);
        assert_ne!(first, second, "{}: two states look alike", spec.id);
        assert_eq!(first, picture(pool.as_mut(), 0), "{}", spec.id);
    });
}

fn picture(pool: &mut dyn VecEnv, env: usize) -> Frame {
    pool.render(env).expect("a native task cannot fail").expect("a native task draws")
}

/// The observations of each episode's start, by its number.
fn starts_by_number(num_envs: usize, episodes: Episodes) -> Vec<(u64, Vec<f32>)> {
    let mut pool = make("Pendulum-v1", &Kwargs::new(), num_envs).unwrap();
    let mut batch = StepBatch::new(pool.spec(), num_envs);
    pool.begin(episodes, &mut batch.observations).unwrap();
    let mut found = Vec::new();
    for k in 0..2 {
        for (env, shown) in batch.observations.chunks(3).enumerate() {
            found.push((episodes.first + env as u64 + episodes.stride * k, shown.to_vec()));
        }
        for _ in 0..200 {
            pool.step(&vec![0.0; num_envs], &mut batch).unwrap();
        }
    }
    found.sort_by_key(|(number, _)| *number);
    found
}

#[test]
fn two_halves_of_a_batch_play_the_episodes_of_the_whole() {
    let whole = starts_by_number(4, Episodes::all(5, 4));
    let half = |first| starts_by_number(2, Episodes { first, ..Episodes::all(5, 4) });
    let mut halves = [half(0), half(2)].concat();
    halves.sort_by_key(|(number, _)| *number);
    assert_eq!(whole, halves);
}

#[test]
fn a_batch_of_two_halves_steps_as_one_that_is_whole() {
    for (id, num_envs) in [("CartPole-v1", 5), ("Pendulum-v1", 2)] {
        let mut whole = make(id, &Kwargs::new(), num_envs).unwrap();
        let mut halved = make_halves(id, &Kwargs::new(), num_envs, &BridgeSettings::default()).unwrap();
        let sizes = halved.halves().expect("it has halves").map(|half| half.num_envs());
        assert_eq!(sizes, [num_envs.div_ceil(2), num_envs / 2]);
        let mut batches = [whole.spec(), halved.spec()].map(|spec| StepBatch::new(spec, num_envs));
        let [expected, found] = &mut batches;
        whole.reset(3, &mut expected.observations).unwrap();
        halved.reset(3, &mut found.observations).unwrap();
        assert_eq!(found, expected);
        for step in 0..250 {
            let actions: Vec<f32> =
                (0..num_envs).map(|env| f32::from(u8::from((step + env) % 3 == 0))).collect();
            whole.step(&actions, expected).unwrap();
            halved.step(&actions, found).unwrap();
            assert_eq!(found, expected, "{id}, step {step}");
        }
    }
}

#[test]
fn one_environment_has_no_halves() {
    let mut one = make_halves("CartPole-v1", &Kwargs::new(), 1, &BridgeSettings::default()).unwrap();
    assert!(one.halves().is_none());
}

#[test]
fn a_group_starts_alike_and_the_next_one_otherwise() {
    let found = starts_by_number(4, Episodes { group_size: 2, ..Episodes::all(5, 4) });
    for (number, shown) in &found {
        for (other, start) in &found {
            assert_eq!(shown == start, number / 2 == other / 2, "episodes {number} and {other}");
        }
    }
}
