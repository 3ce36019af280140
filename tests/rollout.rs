//! How policies act in environments: by a cache or by whole windows.

use serde_json::Value;

use crate::support::{Bench, PRETRAIN, shipped};

/// What `evaluate --json` says of a shipped policy, with further flags.
fn evaluated(bench: &Bench, policy: &str, env: &str, flags: &[&str]) -> Vec<Value> {
    let policy = shipped(policy);
    let episodes = ["--env", env, "--episodes", "10", "--json"];
    let found = bench.succeed(&[&["evaluate", policy.to_str().unwrap()][..], &episodes, flags].concat());
    serde_json::from_str::<Value>(&found).unwrap()["results"].as_array().unwrap().clone()
}

#[test]
fn evaluations_read_windows_unless_the_cache_is_named_and_say_which() {
    let bench = Bench::new();
    let of = |flags: &[&str]| evaluated(&bench, "pendulum", "Pendulum-v1", flags)[0].clone();
    let [silent, window, cached] = [&[][..], &["--inference", "window"], &["--inference", "cached"]].map(of);
    assert_eq!(silent, window);
    assert_ne!(cached["mean_return"], window["mean_return"], "they look back on different steps");
    assert_eq!((&window["inference"], &cached["inference"]), (&"window".into(), &"cached".into()));

    let policy = shipped("pendulum");
    let flags =
        ["--env", "Pendulum-v1", "--episodes", "2", "--inference", "cached", "--max-return-to-go", "-1"];
    let said = bench.succeed(&[&["evaluate", policy.to_str().unwrap()][..], &flags].concat());
    let setting = "target return -150, returns-to-go capped at -1, cached inference: return ";
    assert!(said.starts_with(setting), "{said}");
}

#[test]
fn targets_above_what_the_policy_s_data_reached_differ_unless_they_are_capped() {
    let bench = Bench::new();
    let targets = ["--target-return", "500", "--target-return", "1000"];
    let of = |flags: &[&str]| evaluated(&bench, "cartpole-medium", "CartPole-v1", flags);
    let free = of(&targets);
    assert_ne!(free[0]["mean_return"], free[1]["mean_return"]);
    assert_eq!(free[0]["max_return_to_go"], Value::Null);
    let capped = of(&[&targets[..], &["--max-return-to-go", "156"]].concat());
    assert_eq!(capped[0]["mean_return"], capped[1]["mean_return"]);
    assert_eq!(
        (&capped[1]["target_return"], &capped[1]["max_return_to_go"]),
        (&1000.0.into(), &156.0.into())
    );

    // Its data reached 156 at most.
    let policy = shipped("cartpole-medium");
    let said = |target: &str| {
        let flags = ["--env", "CartPole-v1", "--episodes", "1", "--target-return", target];
        let output = bench.run(&[&["evaluate", policy.to_str().unwrap()][..], &flags].concat());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(said("500").contains("target return 500 lies far above 156"), "{}", said("500"));
    assert_eq!(said("150"), "");
}

#[test]
fn one_target_serves_a_run_unless_evaluation_or_exploration_names_its_own() {
    let bench = Bench::with_policy();
    let text = std::fs::read_to_string(bench.path("adapt.toml")).unwrap();
    let text = text.replace(", target_return = -200.0 }", " }").replace("target_returns = [-200.0]\n", "");
    bench.write("own.toml", &text);
    bench.write("task.toml", &text.replace("kwargs = {", "target_return = -700.0\nkwargs = {"));
    let said = |config: &str, run: &str, sets: &[&str]| {
        let output = bench.run(&[&["train", config, "--out", run][..], sets].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        let found = std::fs::read_to_string(bench.path(run).join("evaluation.json")).unwrap();
        let found: Value = serde_json::from_str(&found).unwrap();
        (said, found[0]["targets"][0].clone())
    };
    for (config, target) in [("own.toml", -200.0), ("task.toml", -700.0)] {
        let (said, found) = said(config, &format!("{config}-run"), &[]);
        assert_eq!((&found["target_return"], &found["inference"]), (&target.into(), &"window".into()));
        assert!(said.contains(&format!("evaluation: target return {target}, window inference\n")), "{said}");
        assert!(said.contains(&format!("exploration: target return {target}, cached inference\n")), "{said}");
    }
    let own = ["--set", "evaluation.target_returns=[-300]", "--set", "rollout.max_return_to_go=-10"];
    let far = ["--set", "online.odt.exploration.target_return=900"];
    let (said, found) = said("task.toml", "each", &[&own[..], &far].concat());
    assert_eq!(found["target_return"], Value::from(-300.0));
    assert_eq!(found["max_return_to_go"], Value::from(-10.0));
    let capped = "exploration: target return 900, returns-to-go capped at -10, cached inference\n";
    assert!(said.contains(capped), "{said}");
    assert!(said.contains("target return 900 lies far outside of the data's returns"), "{said}");
    assert!(!said.contains("target return -300 lies far"), "{said}");
}

#[test]
fn what_is_played_does_not_depend_on_threads() {
    let bench = Bench::new();
    let policy = shipped("pendulum");
    let evaluated = |threads: &str, inference: &str| {
        let mut command = bench.command(&["evaluate", policy.to_str().unwrap(), "--env", "Pendulum-v1"]);
        command.args(["--episodes", "9", "--num-envs", "7", "--inference", inference, "--json"]);
        command.env("OMP_NUM_THREADS", threads).env("RAYON_NUM_THREADS", threads);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    for inference in ["cached", "window"] {
        let one = evaluated("1", inference);
        assert_eq!(evaluated("2", inference), one);
        assert_eq!(evaluated("5", inference), one);
    }
}

#[test]
fn a_run_acts_as_its_config_says() {
    let bench = Bench::with_policy();
    let returns = |name: &str, rollout: &str| {
        let file = format!("{name}.toml");
        bench.write(&file, &PRETRAIN.replace("[evaluation]", &format!("{rollout}[evaluation]")));
        bench.succeed(&["train", &file, "--out", name]);
        let found = std::fs::read_to_string(bench.path(name).join("evaluation.json")).unwrap();
        let found: Value = serde_json::from_str(&found).unwrap();
        found[0]["targets"][0]["mean_return"].as_f64().unwrap()
    };
    let window = returns("silent", "");
    assert_eq!(returns("explores-cached", "[rollout]\ninference = \"cached\"\n"), window);
    let cached = |run: &str| {
        let set = "evaluation={ every = 20, episodes = 2, inference = \"cached\" }";
        bench.succeed(&["train", "silent.toml", "--out", run, "--set", set]);
        let found = std::fs::read_to_string(bench.path(run).join("evaluation.json")).unwrap();
        let found: Value = serde_json::from_str(&found).unwrap();
        found[0]["targets"][0]["mean_return"].as_f64().unwrap()
    };
    assert_ne!(cached("cached"), window);

    let output = bench.run(&["train", "silent.toml", "--set", "rollout.inference=slow", "--out", "slow"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("expected one of \"window\", \"cached\", \"reference\", found \"slow\""), "{said}");
}
