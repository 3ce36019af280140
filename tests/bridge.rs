//! Environments in Python workers, as the program uses them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Bench, PRETRAIN};

/// A command whose workers find `envs/tests/strange_envs.py`.
fn command(bench: &Bench, arguments: &[&str]) -> Command {
    let mut command = bench.command(arguments);
    command.env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("envs/tests"));
    command
}

/// Collects episodes of the environment that counts, which does a deed in its third step.
fn collect(bench: &Bench, deed: &str) -> Command {
    let once = format!("once={}", bench.path("once").display());
    let deed = format!("deed={deed}");
    let mut arguments = vec!["collect", "--env", "gymnasium:Counter-v0", "--env-import", "strange_envs"];
    arguments.extend(["--env-kwarg", &deed, "--env-kwarg", &once, "--env-processes", "2"]);
    arguments.extend(["--num-envs", "4", "--policy", "random", "--episodes", "6", "--out", "data"]);
    command(bench, &arguments)
}

#[test]
fn episodes_that_a_failure_cuts_short_are_played_again_and_counted() {
    let bench = Bench::new();
    let output = collect(&bench, "exit").output().unwrap();
    let (out, messages) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{messages}");
    assert!(messages.contains("failed: its process ended with exit code 3"), "{messages}");
    assert!(out.contains("over 6 episodes of 7 steps") && out.contains("2 more were lost"), "{out}");

    let whole = Bench::new();
    let output = collect(&whole, "nothing").output().unwrap();
    assert!(output.status.success());
    let read = |bench: &Bench| fs::read(bench.path("data/data/main_data.hdf5")).unwrap();
    assert_eq!(read(&bench), read(&whole), "a failure changes no number");
}

/// The program is killed while its worker holds Python's lock and will never look at anything again.
#[test]
fn a_worker_never_outlives_the_program() {
    let bench = Bench::new();
    let mut program = collect(&bench, "hang with the lock").stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let worker = loop {
        match fs::read_to_string(bench.path("once")) {
            Ok(pid) if !pid.is_empty() => break pid,
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the worker has not begun to hang");
    };
    let stat = |process: &str| fs::read_to_string(format!("/proc/{process}/stat"));
    let told = stat(&worker).expect("it lives while the program does");
    let (_, told) = told.rsplit_once(')').unwrap();
    let server = told.split_whitespace().nth(1).unwrap(); // what forked it
    assert!(stat(server).unwrap().contains("python"), "{told}");
    program.kill().unwrap();
    program.wait().unwrap();
    let killed = Instant::now();
    for process in [&worker, server] {
        while stat(process).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(killed.elapsed() < Duration::from_secs(5), "process {process} outlives the program");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[track_caller]
fn check_refused(bench: &Bench, arguments: &[&str], sentence: &str) {
    let output = command(bench, arguments).output().unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{messages}");
    assert!(
        messages.starts_with(&format!("eva-rl: {sentence}")) && messages.lines().count() == 1,
        "{messages}"
    );
}

#[test]
fn what_cannot_be_is_refused_with_exit_code_2() {
    let bench = Bench::new();
    let rest = ["--policy", "random", "--episodes", "1", "--out", "data"];
    bench.write("mine.toml", PRETRAIN);
    let with = |arguments: &[&'static str]| [&["collect", "--env"], arguments, &rest].concat();
    check_refused(
        &bench,
        &with(&["Pendulum-v1", "--env-import", "x"]),
        "--env-import is given for the native `Pendulum-v1`, and it is for ids that begin with `envpool:` or `gymnasium:`",
    );
    check_refused(
        &bench,
        &with(&["gymnasium:Nowhere-v0"]),
        "`gymnasium:Nowhere-v0` cannot be made: NameNotFound: Environment `Nowhere` doesn't exist.",
    );
    check_refused(
        &bench,
        &["train", "mine.toml", "--set", "env.bridge.restarts=2"],
        "--set env.bridge.restarts=2: `env.bridge` is given for the native `Pendulum-v1`, and it is for ids that begin with `envpool:` or `gymnasium:`",
    );
    check_refused(
        &bench,
        &["train", "mine.toml", "--set", "env.bridge.restart=2"],
        "--set env.bridge.restart=2: unknown key `env.bridge.restart`; did you mean `restarts`?",
    );
}

#[test]
fn several_actions_at_once_are_collected_and_read_back_and_no_policy_s() {
    let bench = Bench::new();
    let told = ["collect", "--env", "gymnasium:Told-v0", "--env-import", "strange_envs"];
    let rest = ["--policy", "random", "--noise", "0.5", "--episodes", "2", "--out", "data"];
    assert!(command(&bench, &[&told[..], &rest[..]].concat()).status().unwrap().success());
    let found = bench.succeed(&["inspect", "data"]);
    assert!(found.contains("one each of [2, 3]") && found.contains("gymnasium:Told-v0"), "{found}");
    bench.write("mine.toml", &PRETRAIN.replace("Pendulum-v1", "gymnasium:Told-v0"));
    let set = ["train", "mine.toml", "--set", "env.bridge.imports=[\"strange_envs\"]"];
    check_refused(&bench, &set, "`gymnasium:Told-v0` takes 2 discrete actions at once");
}

/// An episode of Atari's, in which little happens.
fn play_atari(bench: &Bench, env: &[&str], out: &str) -> Value {
    let arguments =
        [&["collect", "--env"], env, &["--policy", "random", "--episodes", "1", "--num-envs", "1"]];
    let output =
        command(bench, &[&arguments.concat()[..], &["--out", out, "--json"]].concat()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["result"].take()
}

fn inspect(bench: &Bench, dataset: &str) -> Value {
    serde_json::from_str(&bench.succeed(&["inspect", dataset, "--json"])).unwrap()
}

#[test]
fn atari_by_ale_is_played_in_frames_of_four_and_scored_beside_the_human() {
    let bench = Bench::new();
    let atari = ["gymnasium:Atari-v0", "--env-import", "atari_envs"];
    let play = |options: &[&str], out: &str| {
        let options = options.iter().flat_map(|option| ["--env-kwarg", option]);
        play_atari(&bench, &atari.into_iter().chain(options).collect::<Vec<_>>(), out)
    };
    let played = play(&["game=Pong", "max_episode_steps=50"], "pong");
    assert_eq!((&played["mean_length"], &played["normalized_score"]), (&50.0.into(), &Value::Null));
    let found = inspect(&bench, "pong");
    assert_eq!((&found["image_shape"], &found["steps"]), (&serde_json::json!([4, 84, 84]), &50.into()));

    let whole = play(&["game=Breakout"], "breakout");
    let reference = serde_json::json!({ "random": 1.7, "human": 30.5 });
    let found = inspect(&bench, "breakout");
    for (found, score) in [(&whole, &whole["normalized_score"]), (&found, &found["normalized_score"])] {
        let expected = 100.0 * (found["mean_return"].as_f64().unwrap() - 1.7) / 28.8;
        assert_eq!(found["reference_scores"], reference);
        assert!((score.as_f64().unwrap() - expected).abs() < 1e-9, "{found}");
    }
    let clipped = play(&["game=Breakout", "clip=true"], "clipped");
    assert_eq!(clipped["normalized_score"], Value::Null);

    let own = ["gymnasium:ale_py:ALE/Breakout-v5", "--env-kwarg", "max_episode_steps=27000"];
    assert_eq!(play_atari(&bench, &own, "own")["reference_scores"], reference);
    assert_eq!(inspect(&bench, "own")["image_shape"], serde_json::json!([3, 210, 160]));
}

#[test]
fn atari_by_envpool_is_scored_beside_the_human_where_rewards_are_raw_and_games_whole() {
    let bench = Bench::new();
    let play = |option: &str| {
        let options = ["envpool:Breakout-v5", "--env-kwarg", option];
        play_atari(&bench, &options, option)
    };
    let raw = play("noop_max=1");
    assert_eq!(raw["reference_scores"], serde_json::json!({ "random": 1.7, "human": 30.5 }));
    assert!(raw["normalized_score"].is_number());
    for option in ["reward_clip=true", "episodic_life=true", "max_episode_steps=20"] {
        assert_eq!(play(option)["normalized_score"], Value::Null, "{option}");
    }
}

/// Random play earns 1.7 in a whole game.
#[test]
fn a_scripted_player_is_shown_the_images() {
    let bench = Bench::new();
    let mut arguments =
        vec!["collect", "--env", "envpool:Breakout-v5", "--env-kwarg", "max_episode_steps=500"];
    arguments.extend(["--policy", "scripted", "--episodes", "3", "--seed", "1", "--out", "data", "--json"]);
    let found: Value = serde_json::from_str(&bench.succeed(&arguments)).unwrap();
    assert!(found["result"]["mean_return"].as_f64().unwrap() >= 10.0, "{found}");
}

/// BabyAI's bot is in the workers, and plans on from whatever was done instead of what it said: where it is not told
/// that, 40% of the disturbed episodes succeed, and 90% where it is. Of random play in GoToLocal 28% do.
#[test]
fn babyais_bot_solves_levels_also_where_it_is_disturbed() {
    let bench = Bench::new();
    for (level, noise, least) in [("GoToLocal", "0", 1.0), ("PutNextLocal", "0.6", 0.75)] {
        let env = format!("gymnasium:minigrid:BabyAI-{level}-v0");
        let mut arguments = vec!["collect", "--env", &env, "--json"];
        arguments.extend(["--policy", "scripted", "--noise", noise, "--episodes", "30", "--num-envs", "7"]);
        arguments.extend(["--seed", "1", "--out", noise]);
        let found: Value = serde_json::from_str(&bench.succeed(&arguments)).unwrap();
        let success = found["result"]["success_rate"].as_f64().unwrap();
        assert!(success >= least, "{level}: {found}");
    }
}

/// In a level that it cannot solve it takes the action `done` (6) from some step on, and the episode goes on to its limit.
#[test]
fn a_bot_that_fails_does_nothing() {
    let bench = Bench::new();
    let mut arguments = vec!["collect", "--env", "gymnasium:minigrid:BabyAI-KeyInBox-v0", "--json"];
    arguments.extend(["--env-kwarg", "max_episode_steps=50", "--policy", "scripted", "--noise", "0"]);
    arguments.extend(["--episodes", "2", "--out", "data"]);
    let found: Value = serde_json::from_str(&bench.succeed(&arguments)).unwrap();
    let result = &found["result"];
    assert_eq!((result["success_rate"].as_f64(), result["mean_length"].as_f64()), (Some(0.0), Some(50.0)));
    let file = hdf5_pure::File::open(bench.path("data/data/main_data.hdf5")).unwrap();
    let actions = file.dataset("episode_1/actions").unwrap().read_i64().unwrap();
    assert!(actions[0] != 6 && actions[40..].iter().all(|action| *action == 6), "{actions:?}");
}

#[test]
fn a_run_trains_in_workers_and_reports_their_success() {
    let bench = Bench::new();
    let mut arguments = vec!["collect", "--env", "envpool:MetaWorld/Reach-v3", "--policy", "scripted"];
    arguments.extend(["--env-kwarg", "partially_observable=false", "--env-kwarg", "max_episode_steps=200"]);
    arguments.extend(["--episodes", "3", "--num-envs", "2", "--out", "data"]);
    assert!(bench.succeed(&arguments).contains("success 100%"));
    let env = "id = \"envpool:MetaWorld/Reach-v3\"\nkwargs = { partially_observable = false, max_episode_steps = 200 }\nbridge = { timeout_secs = 60.0 }";
    bench.write("mine.toml", &PRETRAIN.replace("id = \"Pendulum-v1\"", env));
    bench.succeed(&["train", "mine.toml", "--out", "run"]);
    let found: Value =
        serde_json::from_str(&fs::read_to_string(bench.path("run/evaluation.json")).unwrap()).unwrap();
    assert!(found[0]["targets"][0]["success_rate"].is_number(), "{found}");
    let metrics = fs::read_to_string(bench.path("run/metrics.jsonl")).unwrap();
    assert!(metrics.contains("eval/success_rate"));
    let config = fs::read_to_string(bench.path("run/config.toml")).unwrap();
    assert!(config.contains("[env.bridge]") && config.contains("restarts = 5"), "{config}");
}

#[test]
fn infos_that_no_dataset_can_name_are_refused_before_anything_is_played() {
    let bench = Bench::new();
    for name in ["", ".", "..", "a/b"] {
        let rest = ["--env-info", name, "--policy", "random", "--episodes", "2", "--out", "data"];
        let output = bench.run(&[&["collect", "--env", "gymnasium:CartPole-v1"], rest.as_slice()].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let sentence = format!("eva-rl: --env-info is {name:?}, expected a name that a dataset can have");
        assert!(output.status.code() == Some(2) && said.starts_with(&sentence), "{said}");
    }
}

/// In Minari's order: a row for the reset, and one for each step.
#[test]
fn infos_that_are_named_are_recorded() {
    let bench = Bench::new();
    let mut arguments = vec!["collect", "--env", "gymnasium:Counter-v0", "--env-import", "strange_envs"];
    arguments.extend(["--env-info", "steps", "--policy", "random", "--episodes", "2", "--out", "data"]);
    assert!(command(&bench, &arguments).output().unwrap().status.success());
    let file = hdf5_pure::File::open(bench.path("data/data/main_data.hdf5")).unwrap();
    for episode in ["episode_0", "episode_1"] {
        let read = |name: &str| file.dataset(&format!("{episode}/{name}")).unwrap();
        let steps = read("rewards").read_f64().unwrap().len();
        let told = read("infos/steps").read_f32().unwrap();
        assert!(told[0].is_nan() && told.len() == steps + 1, "{told:?}");
        assert!(told[1..].iter().enumerate().all(|(step, told)| *told == step as f32 + 1.0), "{told:?}");
    }
}

/// The environment earns the sum of the action that it is given, and asserts that it is inside of its space.
#[test]
fn a_dataset_records_the_actions_that_the_environment_was_given() {
    for (takes, least, most) in [
        ("Box", vec![-2, 0], vec![3, 1]),
        ("Discrete", vec![-1], vec![1]),
        ("MultiDiscrete", vec![-4, 5], vec![-3, 7]),
        ("MultiBinary", vec![0, 0], vec![1, 1]),
    ] {
        let bench = Bench::new();
        let kwarg = format!("takes={takes}");
        let arguments =
            ["collect", "--env", "gymnasium:Takes-v0", "--env-import", "strange_envs", "--env-kwarg", &kwarg];
        let rest = ["--policy", "random", "--episodes", "20", "--out", "data"];
        let output = command(&bench, &[&arguments[..], &rest[..]].concat()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let file = hdf5_pure::File::open(bench.path("data/data/main_data.hdf5")).unwrap();
        let (mut smallest, mut greatest) = (most.clone(), least.clone());
        for episode in 0..20 {
            let group = file.group(&format!("episode_{episode}")).unwrap();
            let actions = group.dataset("actions").unwrap().read_i64().unwrap();
            let rewards = group.dataset("rewards").unwrap().read_f64().unwrap();
            for (action, reward) in actions.chunks(least.len()).zip(&rewards) {
                assert_eq!(action.iter().sum::<i64>() as f64, *reward, "{takes}");
                for (dimension, value) in action.iter().enumerate() {
                    smallest[dimension] = smallest[dimension].min(*value);
                    greatest[dimension] = greatest[dimension].max(*value);
                }
            }
        }
        assert_eq!((smallest, greatest), (least, most), "{takes}: each action is played");
        assert!(bench.succeed(&["inspect", "data"]).contains("episodes: 20"), "{takes} is read again");
    }
}
