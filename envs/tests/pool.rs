//! What every pool promises, checked on every environment.

use std::collections::HashMap;

use eva_rl_envs::gymnasium::{Single, pool_of};
use eva_rl_envs::tasks::{CartPole, Native};
use eva_rl_envs::{ActionSpace, EnvError, Kwargs, Phase, StepBatch, VecEnv, make, scripted, spec, specs};
use gymnasium_rs::core::{Env, Info, Options, Reward, Space};
use ndarray::{Array1, Array3, array};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn random_actions(space: &ActionSpace, count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut actions = Vec::new();
    for _ in 0..count {
        match space {
            ActionSpace::Discrete { n } => actions.push(rng.gen_range(0..*n) as f32),
            ActionSpace::Box { low, high } => {
                actions.extend(low.iter().zip(high).map(|(low, high)| rng.gen_range(*low..=*high)));
            }
        }
    }
    actions
}

/// Every observation, reward and phase of `steps` random steps.
fn run(pool: &mut dyn VecEnv, seed: u64, steps: usize) -> Vec<StepBatch> {
    let count = pool.num_envs();
    let mut rng = ChaCha8Rng::seed_from_u64(99);
    let mut batch = StepBatch::new(pool.spec(), count);
    pool.reset(seed, &mut batch.observations).unwrap();
    let mut seen = vec![batch.clone()];
    for _ in 0..steps {
        let actions = random_actions(&pool.spec().action.clone(), count, &mut rng);
        pool.step(&actions, &mut batch).unwrap();
        seen.push(batch.clone());
    }
    seen
}

fn for_each_env(check: impl Fn(&str)) {
    for spec in specs() {
        check(&spec.id);
    }
}

#[test]
fn a_seed_decides_the_run() {
    for_each_env(|id| {
        let run = |seed| run(make(id, &Kwargs::new(), 3).unwrap().as_mut(), seed, 300);
        assert_eq!(run(5), run(5), "{id}");
        assert_ne!(run(5), run(6), "{id}");
    });
}

#[test]
fn threads_do_not_change_the_run() {
    for_each_env(|id| {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(make(id, &Kwargs::new(), 300).unwrap().as_mut(), 5, 40))
        };
        let one = run(1);
        assert_eq!(one, run(2), "{id}");
        assert_eq!(one, run(5), "{id}");
    });
}

#[test]
fn an_episode_s_start_does_not_depend_on_the_number_of_environments() {
    for_each_env(|id| {
        let width = spec(id, &Kwargs::new()).unwrap().observation_width();
        let starts = |count: usize| {
            let mut pool = make(id, &Kwargs::new(), count).unwrap();
            let mut starts: HashMap<usize, Vec<f32>> = HashMap::new();
            let mut next: Vec<usize> = (0..count).collect();
            for (step, batch) in run(pool.as_mut(), 3, 1100).iter().enumerate() {
                for (env, episode) in next.iter_mut().enumerate() {
                    if step == 0 || batch.phases[env] != Phase::Running {
                        starts.insert(*episode, batch.observations[env * width..][..width].to_vec());
                        *episode += count;
                    }
                }
            }
            starts
        };
        let (two, five) = (starts(2), starts(5));
        assert!(two.keys().filter(|episode| five.contains_key(episode)).count() >= 2, "{id}");
        for (episode, start) in two {
            assert!(five.get(&episode).is_none_or(|other| *other == start), "{id} episode {episode}");
        }
    });
}

#[test]
fn observations_are_finite_and_inside_the_space() {
    for_each_env(|id| {
        let mut pool = make(id, &Kwargs::new(), 4).unwrap();
        let spec = pool.spec().clone();
        for batch in run(pool.as_mut(), 1, 600) {
            for row in batch.observations.chunks(spec.observation_width()) {
                for ((x, low), high) in row.iter().zip(&spec.observation_low).zip(&spec.observation_high) {
                    assert!(x.is_finite() && low <= x && x <= high, "{id}: {x} outside {low}..={high}");
                }
            }
            assert!(batch.rewards.iter().all(|reward| reward.is_finite()), "{id}");
        }
    });
}

#[test]
fn an_episode_is_cut_at_its_limit_and_nowhere_else_and_its_last_observation_is_kept() {
    for_each_env(|id| {
        let mut pool = make(id, &Kwargs::new(), 2).unwrap();
        let (limit, width) = (pool.spec().max_episode_steps as usize, pool.spec().observation_width());
        let mut lengths = [0; 2];
        let mut ended = 0;
        for batch in run(pool.as_mut(), 8, 1100).iter().skip(1) {
            for (env, length) in lengths.iter_mut().enumerate() {
                *length += 1;
                let at_limit = *length == limit;
                match batch.phases[env] {
                    Phase::Running => assert!(!at_limit, "{id} ran past its limit"),
                    Phase::Truncated => assert!(at_limit, "{id} was cut after {length} steps"),
                    Phase::Terminated => {}
                }
                if batch.phases[env] != Phase::Running {
                    let rows = env * width..(env + 1) * width;
                    assert_ne!(batch.final_observations[rows.clone()], batch.observations[rows], "{id}");
                    *length = 0;
                    ended += 1;
                }
            }
        }
        assert!(ended >= 2, "{id} never ended");
    });
}

#[track_caller]
fn check_refused(id: &str, action: f32, part: &str) {
    let mut pool = make(id, &Kwargs::new(), 2).unwrap();
    let mut batch = StepBatch::new(pool.spec(), 2);
    pool.reset(0, &mut batch.observations).unwrap();
    let before = batch.clone();
    let message = pool.step(&[0.0, action], &mut batch).unwrap_err().to_string();
    assert!(message.contains(part) && message.contains("environment 1"), "{message}");
    assert_eq!(batch, before, "nothing may have moved");
}

#[test]
fn an_action_out_of_range_is_refused_before_anything_moves() {
    check_refused("CartPole-v1", 2.0, "0..2");
    check_refused("CartPole-v1", 0.5, "whole number");
    check_refused("CartPole-v1", f32::NAN, "NaN");
    check_refused("Pendulum-v1", 2.1, "-2..=2");
    check_refused("Pendulum-v1", f32::NAN, "NaN");
}

#[track_caller]
fn check_unmade(id: &str, kwargs: &[(&str, serde_json::Value)], parts: &[&str]) {
    let kwargs: Kwargs = kwargs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let message = make(id, &kwargs, 1).err().expect("it was made").to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn what_cannot_be_made_is_said_in_a_sentence() {
    check_unmade("CartPol-v1", &[], &["unknown environment `CartPol-v1`", "nearest are `CartPole-v1`"]);
    check_unmade("Pendulum-v1", &[("gravity", 3.into())], &["no option `gravity`", "`g`"]);
    check_unmade("Pendulum-v1", &[("g", "heavy".into())], &["`g`", "\"heavy\"", "a finite number"]);
    check_unmade("Acrobot-v1", &[("g", 1.into())], &["it has none"]);
}

/// Mean return of a scripted controller over 40 episodes.
fn scripted_return(id: &str, kwargs: &Kwargs) -> f64 {
    let count = 40;
    let mut pool = make(id, kwargs, count).unwrap();
    let (width, action_width) = (pool.spec().observation_width(), pool.spec().action.width());
    let mut controllers: Vec<_> = (0..count).map(|_| scripted(id, kwargs).unwrap()).collect();
    let mut batch = StepBatch::new(pool.spec(), count);
    pool.reset(2, &mut batch.observations).unwrap();
    let mut actions = vec![0.0; count * action_width];
    let (mut returns, mut over) = (vec![0.0; count], vec![false; count]);
    while over.contains(&false) {
        for (env, controller) in controllers.iter_mut().enumerate() {
            let action = &mut actions[env * action_width..][..action_width];
            controller.act(&batch.observations[env * width..][..width], action);
        }
        pool.step(&actions, &mut batch).unwrap();
        for env in 0..count {
            if !over[env] {
                returns[env] += f64::from(batch.rewards[env]);
                over[env] = batch.phases[env] != Phase::Running;
            }
        }
    }
    returns.iter().sum::<f64>() / count as f64
}

#[track_caller]
fn check_scripted(id: &str, kwargs: &[(&str, f64)], at_least: f64) {
    let kwargs = kwargs.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    let found = scripted_return(id, &kwargs);
    assert!(found >= at_least, "{id} {kwargs:?}: the controller earns {found:.1}, {at_least} is wanted");
}

#[test]
fn scripted_controllers_are_worth_imitating() {
    check_scripted("CartPole-v1", &[], 500.0);
    check_scripted("Acrobot-v1", &[], -100.0);
    check_scripted("MountainCar-v0", &[], -110.0);
    check_scripted("MountainCarContinuous-v0", &[], 90.0);
    check_scripted("Pendulum-v1", &[], -190.0);
}

#[test]
fn the_pendulum_s_controller_knows_its_gravity() {
    for (gravity, at_least) in [(2.0, -160.0), (6.0, -160.0), (12.0, -300.0), (14.0, -450.0)] {
        check_scripted("Pendulum-v1", &[("g", gravity)], at_least);
    }
}

/// A user's environment: walk to 3.
struct Walk {
    at: f32,
}

impl Env<Array1<f32>, Array1<f32>> for Walk {
    fn observation_space(&self) -> Space {
        Space::Box { low: array![-9.0], high: array![9.0] }
    }

    fn action_space(&self) -> Space {
        Space::Discrete(2)
    }

    fn reset(&mut self, _: Option<i32>, _: Options) -> (Array1<f32>, Info) {
        self.at = 0.0;
        (array![self.at], HashMap::new())
    }

    fn step(&mut self, action: Array1<f32>) -> (Array1<f32>, Reward, bool, bool, Info) {
        self.at += if action[0] == 1.0 { 1.0 } else { -1.0 };
        (array![self.at], self.at, self.at >= 3.0, false, HashMap::new())
    }

    fn render(&self) -> Option<Array3<u8>> {
        None
    }

    fn close(&mut self) {}
}

#[test]
fn a_user_s_gymnasium_rs_environment_goes_into_the_same_pool() {
    let mut pool = pool_of("Walk-v0", 4, vec![Walk { at: 0.0 }, Walk { at: 0.0 }]).unwrap();
    let mut batch = StepBatch::new(pool.spec(), 2);
    pool.reset(0, &mut batch.observations).unwrap();
    let mut phases = Vec::new();
    for _ in 0..4 {
        pool.step(&[1.0, 0.0], &mut batch).unwrap();
        phases.push((batch.phases[0], batch.phases[1]));
    }
    assert_eq!(phases[2], (Phase::Terminated, Phase::Running));
    assert_eq!(phases[3], (Phase::Running, Phase::Truncated));
    assert_eq!(batch.final_observations, [3.0, -4.0]);
    assert!(matches!(pool_of::<Walk>("Walk-v0", 4, Vec::new()), Err(EnvError::EmptyPool { .. })));
}

#[test]
fn a_task_is_a_gymnasium_rs_environment_with_its_limit() {
    let mut env = Single::new(CartPole::new(&Kwargs::new()).unwrap());
    assert_eq!(env.action_space(), Space::Discrete(2));
    let (first, _) = env.reset_seed(4);
    assert_eq!(first, env.reset_seed(4).0);
    let mut controller = scripted("CartPole-v1", &Kwargs::new()).unwrap();
    let (mut observation, mut steps, mut action) = (first, 0, [0.0]);
    loop {
        controller.act(observation.as_slice().unwrap(), &mut action);
        let (next, reward, terminated, truncated, _) = env.step(array![action[0]]);
        (observation, steps) = (next, steps + 1);
        assert!(!terminated && reward == 1.0);
        if truncated {
            break;
        }
    }
    assert_eq!(steps, 500);
}
