//! How policies act in environments: by a cache or by whole windows.

use serde_json::Value;

use crate::support::{Bench, PRETRAIN, golden};

/// What `evaluate` says of the policy of the demo, which looks back on 10 of 200 steps.
fn evaluated(bench: &Bench, inference: &str) -> Value {
    let policy = golden("../../policies/pendulum");
    let policy = policy.to_str().unwrap();
    let episodes = ["--env", "Pendulum-v1", "--episodes", "40", "--num-envs", "40"];
    let flags = ["--inference", inference, "--json"];
    let found = bench.succeed(&[&["evaluate", policy][..], &episodes, &flags].concat());
    serde_json::from_str::<Value>(&found).unwrap()["results"][0].clone()
}

#[test]
fn a_cache_and_whole_windows_earn_alike() {
    let bench = Bench::new();
    let (cached, window) = (evaluated(&bench, "cached"), evaluated(&bench, "window"));
    assert_ne!(cached["mean_return"], window["mean_return"], "they look back on different steps");
    for (one, other) in [(&cached, &window), (&window, &cached)] {
        let mean = one["mean_return"].as_f64().unwrap();
        let [low, high] = [0, 1].map(|end| other["interval"][end].as_f64().unwrap());
        assert!((low..high).contains(&mean), "{mean} lies outside of {low} to {high}");
    }
}

#[test]
fn what_is_played_does_not_depend_on_threads() {
    let bench = Bench::new();
    let policy = golden("../../policies/pendulum");
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
    let cached = returns("cached", "[rollout]\ninference = \"cached\"\n");
    let window = returns("window", "[rollout]\ninference = \"window\"\n");
    assert_eq!(returns("silent", ""), cached);
    assert_ne!(cached, window);

    let output = bench.run(&["train", "silent.toml", "--set", "rollout.inference=slow", "--out", "slow"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("`slow`") && said.contains("`cached`") && said.contains("`window`"), "{said}");
}
