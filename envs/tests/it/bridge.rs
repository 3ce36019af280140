//! Environments in Python workers: what they show, and which are refused.

use eva_rl_envs::{
    ActionSpace, BridgeSettings, EnvError, Kwargs, Phase, StepBatch, Success, VecEnv, make_halves, make_with,
    scripted_with,
};
use serde_json::{Value, json};

/// Two processes that host the environments of `tests/strange_envs.py`.
pub fn settings() -> BridgeSettings {
    BridgeSettings {
        imports: vec!["tests.strange_envs".to_owned()],
        processes: 2,
        ..BridgeSettings::default()
    }
}

pub fn kwargs(values: Value) -> Kwargs {
    serde_json::from_value(values).expect("kwargs are a table")
}

pub fn strange(id: &str, values: Value, num_envs: usize, settings: &BridgeSettings) -> Box<dyn VecEnv> {
    make_with(id, &kwargs(values), num_envs, settings).unwrap()
}

/// A pool and what it showed last.
pub struct Game {
    pub pool: Box<dyn VecEnv>,
    pub batch: StepBatch,
}

impl Game {
    pub fn new(mut pool: Box<dyn VecEnv>, seed: u64) -> Self {
        let mut batch = StepBatch::new(pool.spec(), pool.num_envs());
        pool.reset(seed, &mut batch.observations).unwrap();
        Self { pool, batch }
    }

    pub fn step(&mut self) -> Result<(), EnvError> {
        let actions = vec![1.0; self.pool.num_envs() * self.pool.spec().action.width()];
        self.pool.step(&actions, &mut self.batch)
    }

    /// An info of each environment's, by its name.
    pub fn info(&self, name: &str) -> Vec<f32> {
        let infos = &self.pool.spec().infos;
        let column = infos.iter().position(|info| info == name).expect("the info is asked for");
        self.batch.infos.chunks(infos.len()).map(|row| row[column]).collect()
    }

    /// The process that hosts an environment.
    pub fn pid(&self, env: usize) -> u32 {
        let pid = self.info("pid")[env] as u32;
        assert!(pid > 1, "{pid} is no worker");
        pid
    }

    /// One number of each environment's row.
    pub fn column(&self, column: usize) -> Vec<f32> {
        let width = self.pool.spec().observation_width();
        self.batch.observations.chunks(width).map(|row| row[column]).collect()
    }
}

#[test]
fn what_a_worker_shows_is_what_its_environment_does() {
    let mut game = Game::new(strange("gymnasium:Counter-v0", json!({"length": 3}), 5, &settings()), 4);
    let starts = game.column(0);
    for step in 1..=7 {
        game.step().unwrap();
        assert_eq!(game.batch.rewards, [1.0; 5]);
        let ended = step % 3 == 0;
        assert_eq!(game.batch.phases, [if ended { Phase::Terminated } else { Phase::Running }; 5]);
        assert_eq!(game.column(1), [(step % 3) as f32; 5]);
        if step == 3 {
            let expected: Vec<f32> = starts.iter().flat_map(|seed| [*seed, 3.0]).collect();
            assert_eq!(game.batch.final_observations, expected, "the last observation is kept");
            assert_ne!(game.column(0), starts, "each episode has a seed of its own");
        }
    }
}

#[test]
fn the_number_of_processes_changes_nothing() {
    let play = |processes| {
        let settings = BridgeSettings { processes, ..settings() };
        let mut game = Game::new(strange("gymnasium:Counter-v0", json!({"length": 3}), 5, &settings), 4);
        let mut shown = game.batch.observations.clone();
        for _ in 0..8 {
            game.step().unwrap();
            shown.extend_from_slice(&game.batch.observations);
        }
        shown
    };
    let alone = play(1);
    assert_eq!(alone, play(3));
    assert_eq!(alone, play(64), "no more processes than environments");
}

#[test]
fn dicts_are_flattened_in_gymnasium_s_order_and_infos_arrive() {
    let settings = BridgeSettings { infos: vec!["twice".to_owned()], ..settings() };
    let mut game = Game::new(strange("gymnasium:Told-v0", json!({}), 4, &settings), 0);
    let spec = game.pool.spec().clone();
    assert_eq!(spec.action, ActionSpace::MultiDiscrete { counts: vec![2, 3], starts: vec![0, 0] });
    assert_eq!(spec.infos, ["success", "twice"]);
    assert_eq!(spec.success, Success::Info { column: 0 });
    assert_eq!(spec.observation_low, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -9.0, -9.0, -9.0, -9.0]);
    assert_eq!(spec.observation_high, [255.0, 255.0, 255.0, 1.0, 1.0, 1.0, 9.0, 9.0, 9.0, 9.0]);
    assert_eq!(game.batch.observations[..10], [0.0, 1.0, 255.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0]);
    let mut successes = 0.0;
    for step in 1..=5 {
        game.step().unwrap();
        assert_eq!(game.batch.rewards, [11.0; 4]);
        assert_eq!(game.info("twice"), [2.0 * step as f32; 4]);
        successes += game.info("success").iter().sum::<f32>();
        assert!(step == 2 || game.info("success") == [0.0; 4]);
    }
    assert!((1.0..=3.0).contains(&successes), "seed 0 has episodes of both kinds: {successes}");

    let before = game.batch.clone();
    let refused = game.pool.step(&[1.0, 1.0, 1.0, 3.0, 1.0, 1.0, 1.0, 1.0], &mut game.batch);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "dimension 1 of the action of environment 1 is 3; it must be an integer from 0 to 2"
    );
    assert_eq!(game.batch, before);
}

/// The image of `Seen-v0` at a step, channels first.
fn seen(step: u8) -> Vec<u8> {
    let place = |channel: u8| (0..20).map(move |pixel| 3 * pixel + channel + step);
    (0..3).flat_map(place).collect()
}

#[test]
fn images_are_kept_apart_with_their_channels_first() {
    let settings = BridgeSettings { images: true, ..settings() };
    let mut game = Game::new(strange("gymnasium:Seen-v0", json!({}), 3, &settings), 0);
    let spec = game.pool.spec().clone();
    assert_eq!((spec.image, spec.pixels(), spec.observation_width()), (Some([3, 4, 5]), 60, 5));
    assert_eq!(game.batch.observations[..5], [1.0, 0.0, 1.0, 0.0, 0.0]);
    assert_eq!(game.pool.pixels(2), seen(0));
    for step in 1..=2 {
        game.step().unwrap();
        assert!((0..3).all(|env| game.pool.pixels(env) == seen(step)));
    }
    assert_eq!(game.batch.observations[5..10], [1.0, 0.0, 0.0, 0.0, 1.0]);
    game.step().unwrap();
    assert_eq!(game.batch.phases, [Phase::Terminated; 3]);
    assert_eq!(game.batch.final_observations[..5], [0.0, 1.0, 1.0, 0.0, 0.0]);
    assert!((0..3).all(|env| game.pool.final_pixels(env) == seen(3) && game.pool.pixels(env) == seen(0)));
}

#[test]
fn envpool_s_images_are_those_that_it_stacks() {
    let settings = BridgeSettings { images: true, ..BridgeSettings::default() };
    let mut game = Game::new(strange("envpool:Pong-v5", json!({}), 3, &settings), 0);
    let spec = game.pool.spec().clone();
    assert_eq!((spec.image, spec.observation_width()), (Some([4, 84, 84]), 0));
    let frame = 84 * 84;
    for _ in 0..40 {
        let before: Vec<Vec<u8>> = (0..3).map(|env| game.pool.pixels(env).to_vec()).collect();
        game.step().unwrap();
        for (env, before) in before.iter().enumerate() {
            let now = game.pool.pixels(env);
            assert_eq!(now[..3 * frame], before[frame..], "the last three frames moved up");
            assert!(now.iter().any(|pixel| *pixel != now[0]), "something is to be seen");
        }
    }
}

#[test]
fn what_environments_hand_over_in_their_own_way_is_taken() {
    let settings = BridgeSettings { infos: vec!["fuel".to_owned()], processes: 1, ..settings() };
    let mut game = Game::new(strange("gymnasium:Handed-v0", json!({}), 2, &settings), 0);
    let spec = game.pool.spec().clone();
    assert_eq!(spec.action, ActionSpace::Discrete { n: 2, start: 3 });
    assert_eq!(spec.infos, ["success", "fuel"]);
    assert_eq!(game.batch.observations[..7], [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
    for step in 1..=3 {
        game.step().unwrap();
        assert_eq!(game.batch.rewards, [4.0; 2], "the second action, which the environment calls 4");
        let (success, fuel) = (game.info("success")[0], game.info("fuel")[0]);
        assert_eq!(fuel, if step < 3 { 0.5 } else { 0.0 });
        assert!(if step < 3 { success < 0.0 } else { success == 1.0 }, "step {step}: {success}");
    }
    assert_eq!(game.batch.final_observations[..7], [0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn actions_at_their_bounds_are_inside_of_the_environment_s_own() {
    let mut game = Game::new(strange("gymnasium:Bounded-v0", json!({}), 1, &settings()), 0);
    let ActionSpace::Box { low, high } = game.pool.spec().action.clone() else { panic!("a Box") };
    for actions in [low, high] {
        game.pool.step(&actions, &mut game.batch).unwrap();
        assert_eq!(game.batch.phases, [Phase::Running], "{:?}", game.pool.incidents());
    }
}

#[test]
fn an_environment_of_the_old_api_is_told_which_call_it_is() {
    let settings = BridgeSettings { restarts: 0, ..settings() };
    let fails = |id: &str| {
        let mut pool = strange(id, json!({}), 1, &settings);
        let mut batch = StepBatch::new(pool.spec(), 1);
        let begun = pool.reset(0, &mut batch.observations);
        begun.and_then(|()| pool.step(&[0.0], &mut batch)).unwrap_err().to_string()
    };
    for (id, told) in [
        (
            "gymnasium:OldStep-v0",
            "step() gives another number of values, and Gymnasium's gives observation, reward, ",
        ),
        (
            "gymnasium:OldReset-v0",
            "reset() gives ndarray, and Gymnasium's gives an observation and a dict of infos",
        ),
    ] {
        let found = fails(id);
        assert!(found.contains(told), "{found}");
    }
}

#[test]
fn workers_of_both_halves_have_their_own_numbers() {
    let settings = BridgeSettings { restarts: 5, processes: 2, ..settings() };
    let mut env =
        make_halves("gymnasium:Counter-v0", &kwargs(json!({"deed": "exit"})), 2, &settings).unwrap();
    let mut batch = StepBatch::new(env.spec(), 2);
    env.reset(0, &mut batch.observations).unwrap();
    for _ in 0..3 {
        env.step(&[1.0, 1.0], &mut batch).unwrap();
    }
    let workers: Vec<usize> = env.incidents().iter().map(|incident| incident.worker).collect();
    assert_eq!(workers, [0, 1]);
}

#[test]
fn a_step_limit_that_envpool_s_spec_has_is_kept_and_one_that_it_lacks_is_found() {
    let limits = [("envpool:lane-keeping-v0", 200), ("envpool:BabyAI-GoToRedBallGrey-v0", 64)];
    for (id, limit) in limits {
        let mut game = Game::new(strange(id, json!({}), 3, &settings()), 1);
        assert_eq!(game.pool.spec().max_episode_steps, limit, "{id}");
        let actions = vec![0.0; 3 * game.pool.spec().action.width()];
        for step in 1..=2 * limit {
            game.pool.step(&actions, &mut game.batch).unwrap();
            let ends = step % limit == 0;
            let phase = if ends { Phase::Truncated } else { Phase::Running };
            assert_eq!(game.batch.phases, [phase; 3], "{id} at step {step}");
        }
    }
}

#[track_caller]
fn check_refused(id: &str, values: Value, settings: &BridgeSettings, sentence: &str) {
    let error = make_with(id, &kwargs(values), 2, settings).err().expect("it is refused").to_string();
    assert!(error.starts_with(sentence) && !error.contains('\n'), "{error}");
}

#[test]
fn what_cannot_be_made_is_said_in_a_sentence() {
    let settings = settings();
    check_refused(
        "gymnasium:CartPol-v1",
        json!({}),
        &settings,
        "`gymnasium:CartPol-v1` cannot be made: NameNotFound: Environment `CartPol` doesn't exist. Did you mean: `CartPole`?",
    );
    let sentence = "`gymnasium:CartPole-v1` cannot be made: TypeError: CartPoleEnv.__init__() got an unexpected keyword argument 'gravity'";
    check_refused("gymnasium:CartPole-v1", json!({"gravity": 3}), &settings, sentence);
    let sentence = "`envpool:Hoper-v4` cannot be made: ValueError: EnvPool has no task of this name; the nearest are Hopper-v4, ";
    check_refused("envpool:Hoper-v4", json!({}), &settings, sentence);
    let sentence = "`envpool:CartPole-v1` cannot be made: TypeError: Config.__new__() got an unexpected keyword argument 'g'";
    check_refused("envpool:CartPole-v1", json!({"g": 3}), &settings, sentence);
    check_refused(
        "gymnasium:Endless-v0",
        json!({}),
        &settings,
        "`gymnasium:Endless-v0` has no limit of steps; give it one with the kwarg `max_episode_steps`",
    );
    strange("gymnasium:Endless-v0", json!({"max_episode_steps": 5}), 1, &settings);
    let missing = BridgeSettings { imports: vec!["no_such_module".to_owned()], ..settings.clone() };
    let sentence = "`gymnasium:CartPole-v1` cannot be made: ModuleNotFoundError: No module named 'no_such_module'; `no_such_module` is looked for in the current folder, ";
    check_refused("gymnasium:CartPole-v1", json!({}), &missing, sentence);
    let misspelt = BridgeSettings { infos: vec!["succes".to_owned()], ..settings.clone() };
    let sentence =
        "`envpool:MetaWorld/Reach-v3` cannot be made: ValueError: it has no info `succes`; it has success, ";
    check_refused("envpool:MetaWorld/Reach-v3", json!({}), &misspelt, sentence);
}

#[test]
fn an_interpreter_that_is_none_is_said_in_a_sentence() {
    let with = |python: &str| BridgeSettings { python: Some(python.into()), ..settings() };
    let sentence =
        "`gymnasium:CartPole-v1` cannot be made: cannot start the interpreter \"/no/python\": No such file";
    check_refused("gymnasium:CartPole-v1", json!({}), &with("/no/python"), sentence);
    let sentence = "`gymnasium:CartPole-v1` cannot be made: its process ended with exit code 1";
    check_refused("gymnasium:CartPole-v1", json!({}), &with("/bin/false"), sentence);
}

#[test]
fn spaces_that_rows_cannot_hold_are_named() {
    let check = |shows: &str, takes: &str, sentence: &str| {
        check_refused("gymnasium:Odd-v0", json!({"shows": shows, "takes": takes}), &settings(), sentence);
    };
    check("Graph", "Discrete", "the observation space of `gymnasium:Odd-v0` is Graph(Box(-inf, ");
    let edges = "the observation space of `gymnasium:Odd-v0` is a Dict whose key `edges` is Graph(Box(-inf, ";
    check("edges", "Discrete", edges);
    check(
        "Box",
        "unbounded Box",
        "the action space of `gymnasium:Odd-v0` is Box(-inf, inf, (2,), float64); it must be",
    );
}

#[test]
fn a_gymnasium_environment_draws_itself() {
    let values = json!({"render_mode": "rgb_array"});
    let mut game = Game::new(strange("gymnasium:Counter-v0", values.clone(), 2, &settings()), 0);
    let frame = game.pool.render(1).unwrap().expect("it draws");
    assert_eq!((frame.width, frame.height, &frame.rgb[..6]), (3, 2, &[0, 0, 0, 1, 1, 1][..]));
    let mut game = Game::new(strange("gymnasium:Odd-v0", json!({}), 1, &settings()), 0);
    let error = game.pool.render(0).unwrap_err().to_string();
    assert!(error.starts_with("`gymnasium:Odd-v0` cannot be drawn: "), "{error}");
}

#[test]
fn an_envpool_environment_depends_on_its_seed_and_its_index_alone() {
    let starts = |num_envs, seed| {
        let pool = strange("envpool:CartPole-v1", json!({}), num_envs, &BridgeSettings::default());
        let mut game = Game::new(pool, seed);
        let mut shown = game.batch.observations[..8].to_vec();
        for _ in 0..40 {
            game.step().unwrap();
            shown.extend_from_slice(&game.batch.observations[..8]);
        }
        shown
    };
    assert_eq!(starts(2, 1), starts(7, 1));
    assert_ne!(starts(2, 1), starts(2, 2));
    assert_ne!(starts(2, 1)[..4], starts(2, 1)[4..8]);
}

#[test]
fn an_envpool_is_begun_anew_by_its_seed() {
    let mut game = Game::new(strange("envpool:CartPole-v1", json!({}), 3, &BridgeSettings::default()), 1);
    let starts = game.batch.observations.clone();
    game.step().unwrap();
    game.pool.reset(2, &mut game.batch.observations).unwrap();
    assert_ne!(game.batch.observations, starts);
    game.pool.reset(1, &mut game.batch.observations).unwrap();
    assert_eq!(game.batch.observations, starts);
}

#[test]
fn meta_world_s_experts_succeed() {
    for id in [
        "envpool:MetaWorld/Reach-v3",
        "envpool:MetaWorld/WindowClose-v3",
        "envpool:MetaWorld/ButtonPressTopdownWall-v3",
    ] {
        let values = json!({"partially_observable": false, "max_episode_steps": 200});
        let mut game = Game::new(strange(id, values.clone(), 4, &BridgeSettings::default()), 0);
        let mut expert = scripted_with(id, &kwargs(values), 4, &BridgeSettings::default()).unwrap();
        assert_eq!(game.pool.spec().success, Success::Info { column: 0 });
        let (mut actions, mut succeeded) = (vec![0.0; 16], [false; 4]);
        for step in 1..=200 {
            expert.act_rows(4, &game.batch.observations, &[], &mut actions).unwrap();
            game.pool.step(&actions, &mut game.batch).unwrap();
            let phase = if step == 200 { Phase::Truncated } else { Phase::Running };
            assert_eq!(game.batch.phases, [phase; 4], "{id}");
            for (succeeded, info) in succeeded.iter_mut().zip(&game.batch.infos) {
                *succeeded |= *info != 0.0;
            }
        }
        assert_eq!(succeeded, [true; 4], "{id}");
    }
}

#[test]
fn an_expert_that_is_not_there_is_said_in_a_sentence() {
    let ask = |id: &str, values| {
        scripted_with(id, &kwargs(values), 1, &BridgeSettings::default()).err().unwrap().to_string()
    };
    assert_eq!(
        ask("envpool:Hopper-v4", json!({})),
        "`envpool:Hopper-v4` has no scripted expert; expected a native environment, EnvPool's Meta-World, Pong-v5 or Breakout-v5, or `gymnasium:minigrid:BabyAI-…`"
    );
    assert_eq!(
        ask("envpool:MetaWorld/Reach-v3", json!({})),
        "kwarg `partially_observable` of `envpool:MetaWorld/Reach-v3` is true by default; it must be false, because the expert looks at the goal"
    );
}
