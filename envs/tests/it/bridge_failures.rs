//! Python workers that fail: they are replaced, named, and never outlive the pool.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use eva_rl_envs::{BridgeSettings, Incident, Phase};
use serde_json::json;

use crate::bridge::{Game, settings, strange};

/// Has a worker do something once, in its third step, and holds what comes of it.
#[track_caller]
fn check_survives(deed: &str, what: &str) {
    let folder = tempfile::tempdir().unwrap();
    let once = folder.path().join("done");
    let settings = BridgeSettings { timeout_secs: 3.0, infos: vec!["steps".to_owned()], ..settings() };
    let values = json!({"deed": deed, "once": once});
    let mut game = Game::new(strange("gymnasium:Counter-v0", values, 4, &settings), 8);
    let starts = game.column(0);
    game.step().unwrap();
    game.step().unwrap();
    game.step().unwrap();

    let [incident] = game.pool.incidents().try_into().unwrap_or_else(|all| panic!("{deed}: {all:?}"));
    let Incident { worker, lost, failures, .. } = incident;
    assert_eq!((lost, failures), (2, 1), "{deed}");
    let told = incident.to_string();
    assert!(told.starts_with(&format!("worker {worker} of `gymnasium:Counter-v0` failed: {what}")), "{told}");
    assert!(game.pool.incidents().is_empty(), "an incident is told once");
    // The others have gone on; the failed worker's episodes begin anew, with the same seeds.
    for row in 0..4 {
        let lost = row / 2 == worker;
        let (phase, steps) = if lost { (Phase::Lost, 0.0) } else { (Phase::Running, 3.0) };
        assert_eq!((game.batch.phases[row], game.column(1)[row]), (phase, steps), "{deed}, row {row}");
        assert_eq!(
            (game.batch.rewards[row], game.info("steps")[row]),
            if lost { (0.0, 0.0) } else { (1.0, 3.0) }
        );
    }
    assert_eq!(game.column(0), starts, "{deed}");
    for _ in 0..7 {
        game.step().unwrap();
    }
    assert!(game.pool.incidents().is_empty(), "{deed}");
}

#[test]
fn a_worker_that_ends_is_replaced() {
    check_survives("exit", "its process ended with exit code 3");
    check_survives("sys.exit", "its process ended with exit code 4");
    check_survives("kill", "its process was killed by SIGKILL");
    check_survives("segfault", "its process was killed by SIGSEGV");
}

#[test]
fn a_worker_that_hangs_is_replaced() {
    check_survives("hang", "it did not answer within 3 s");
    check_survives("hang with the lock", "it did not answer within 3 s");
}

#[test]
fn a_worker_that_raises_is_replaced() {
    check_survives("raise", "ValueError: the wheel came off (");
    check_survives("show three", "ValueError: an observation has shape (3,), and (2,) is its space's");
    check_survives("show words", "ValueError: could not convert string to float");
    check_survives("inform wrongly", "TypeError: the info `steps` is str, expected a number");
}

#[test]
fn a_worker_that_talks_nonsense_is_replaced() {
    check_survives("show nan", "it gave an observation with NaN, expected numbers");
    check_survives("earn nan", "it gave a reward with NaN, expected numbers");
    check_survives("earn nothing", "TypeError: the reward is None, expected a number");
    check_survives("speak nonsense", "it answered with the byte 238, which means nothing");
}

#[test]
fn what_a_worker_prints_and_reads_disturbs_nothing() {
    let mut game = Game::new(strange("gymnasium:Counter-v0", json!({"deed": "print"}), 2, &settings()), 0);
    for step in 1..=6 {
        game.step().unwrap();
        assert_eq!(game.column(1), [step as f32; 2]);
    }
    assert!(game.pool.incidents().is_empty());
}

#[test]
fn a_worker_killed_between_steps_is_replaced() {
    let settings = BridgeSettings { infos: vec!["pid".to_owned()], ..settings() };
    let mut game = Game::new(strange("gymnasium:Counter-v0", json!({}), 4, &settings), 0);
    for round in 0..3 {
        game.step().unwrap();
        game.step().unwrap();
        assert_ne!(game.pid(0), game.pid(3), "there are two processes");
        kill(game.pid(3 * (round % 2)));
        game.step().unwrap();
        let lost = game.batch.phases.iter().filter(|phase| **phase == Phase::Lost).count();
        assert_eq!((lost, game.pool.incidents().len()), (2, 1), "round {round}");
    }
    game.step().unwrap();
    kill(game.pid(0));
    game.pool.reset(0, &mut game.batch.observations).unwrap();
    let fresh = Game::new(strange("gymnasium:Counter-v0", json!({}), 4, &settings), 0);
    assert_eq!(game.batch.observations, fresh.batch.observations);
}

#[test]
fn workers_outlive_their_fork_server_and_are_replaced_from_another() {
    let settings = BridgeSettings { infos: vec!["pid".to_owned(), "parent".to_owned()], ..settings() };
    let mut game = Game::new(strange("gymnasium:Counter-v0", json!({}), 2, &settings), 0);
    game.step().unwrap();
    let [server, other] = game.info("parent").try_into().unwrap();
    assert_eq!(other, server, "both workers are forks of one process");
    assert!(server > 1.0);
    kill(server as u32);
    await_end(server as u32);
    game.step().unwrap();
    assert_eq!(game.batch.phases, [Phase::Running; 2]);

    // The second is a fork of another fork server, which hears how it ended.
    for how in ["is gone", "was killed by SIGKILL"] {
        kill(game.pid(0));
        game.step().unwrap();
        let [incident] = game.pool.incidents().try_into().unwrap();
        assert!(incident.to_string().contains(&format!("failed: its process {how}")), "{incident}");
        game.step().unwrap();
        assert_eq!(game.batch.phases, [Phase::Running; 2]);
    }
}

#[test]
fn no_two_workers_draw_the_same_numbers() {
    let settings = BridgeSettings { infos: vec!["luck".to_owned()], processes: 3, ..settings() };
    let mut game = Game::new(strange("gymnasium:Counter-v0", json!({}), 3, &settings), 0);
    game.step().unwrap();
    let [first, second, third] = game.info("luck").try_into().unwrap();
    assert!(first != second && second != third && first != third);
}

#[test]
fn a_worker_that_fails_too_often_is_named_with_what_it_did() {
    let settings = BridgeSettings { restarts: 2, processes: 1, ..settings() };
    let mut game = Game::new(strange("gymnasium:Counter-v0", json!({"deed": "exit"}), 2, &settings), 0);
    let error = (0..100).find_map(|_| game.step().err()).expect("it always fails in its third step");
    let sentence = "worker 0 of `gymnasium:Counter-v0` has failed 3 times, the last time because its process ended with exit code 3";
    assert_eq!(error.to_string(), sentence);
    assert_eq!(game.pool.incidents().len(), 2);
    assert!(game.step().is_err(), "it stays dead");
}

#[test]
fn an_environment_that_raises_the_same_at_the_same_step_is_not_started_for_ever() {
    let settings = BridgeSettings { restarts: 5, processes: 1, ..settings() };
    let mut game = Game::new(strange("gymnasium:Counter-v0", json!({"deed": "raise"}), 2, &settings), 0);
    let error = (0..100).find_map(|_| game.step().err()).expect("it always fails in its third step");
    let told = error.to_string();
    let begin = "worker 0 of `gymnasium:Counter-v0` failed twice in a row at its step 2, so it is not started again: ValueError: the wheel came off (";
    assert!(told.starts_with(begin), "{told}");
    assert!(told.contains("strange_envs.py, line 69, in step: `raise ValueError("), "{told}");
    assert_eq!(game.pool.incidents().len(), 1);
    assert!(game.step().is_err(), "it stays dead");
}

#[test]
fn what_a_worker_started_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let once = folder.path().join("child");
    let settings = BridgeSettings { processes: 1, timeout_secs: 30.0, ..settings() };
    let values = json!({"deed": "fork", "once": once});
    let mut game = Game::new(strange("gymnasium:Counter-v0", values, 1, &settings), 0);
    for _ in 0..3 {
        game.step().unwrap();
    }
    // Children that hold the socket open do not hide the worker's end.
    let [incident] = game.pool.incidents().try_into().unwrap();
    assert!(incident.to_string().contains("exit code 5"), "{incident}");
    let child: u32 = fs::read_to_string(&once).unwrap().parse().unwrap();
    await_end(child);
}

fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

#[track_caller]
fn await_end(pid: u32) {
    let begun = Instant::now();
    while stat(pid).is_some_and(|stat| stat[0] != "Z") {
        assert!(begun.elapsed() < Duration::from_secs(5), "{pid} lives on");
        std::thread::sleep(Duration::from_millis(10));
    }
}
