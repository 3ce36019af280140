//! `init`: what it writes for every method and every algorithm is read, and trains.

use std::fs;

use crate::support::{Bench, test_rows};

/// Makes a run of what `init` wrote so small that it takes a second.
const SMALL: [&str; 4] =
    ["offline.updates=4", "evaluation.episodes=2", "evaluation.every=4", "env.num_envs=8"];

#[track_caller]
fn check_trains(bench: &Bench, name: &str, given: &[&str], more: &[&str]) -> String {
    let config = format!("{name}.toml");
    bench.succeed(&[&["init", "--data", "data", "--out", &config][..], given].concat());
    let mut train = vec!["train", config.as_str(), "--out", name];
    SMALL.iter().chain(more).for_each(|set| train.extend(["--set", set]));
    bench.succeed(&train);
    assert!(bench.path(name).join("README.md").is_file(), "{name}");
    fs::read_to_string(bench.path(&config)).unwrap()
}

mod every_method_has_a_config_to_start_from {
    use super::*;

    fn row(method: &str, shrink: &[&str]) {
        let bench = Bench::with_policy();
        let text = check_trains(&bench, method, &["--policy", "policy", "--method", method], shrink);
        assert!(text.contains(&format!("\n[adapter.{method}]\n")), "{text}");
        assert!(text.contains("id = \"Pendulum-v1\""), "{text}");
    }

    test_rows! {
        row:
        full_fine_tuning = &[],
        head_only = &[],
        lora = &[],
        orthogonal = &[],
        eva = &[],
        pissa = &[],
        milora = &[],
        olora = &[],
        corda = &[],
        lora_ga = &[],
        lora_one = &[],
        ipa = &[],
        adalora = &["adapter.adalora.tinit=1", "adapter.adalora.tfinal=1"],
    }
}

mod every_algorithm_has_a_config_to_start_from {
    use super::*;

    fn row(algorithm: &str, (): ()) {
        let bench = Bench::with_policy();
        let rounds = format!("online.{algorithm}.exploration.rounds=1");
        let updates = format!("online.{algorithm}.exploration.updates_per_round=2");
        let given = ["--policy", "policy", "--online", algorithm];
        let text = check_trains(&bench, algorithm, &given, &[&rounds, &updates]);
        assert!(text.contains(&format!("\n[online.{algorithm}]\n")), "{text}");
    }

    test_rows! { row: odt = (), td3_odt = (), grpo = (), filtered_bc = (), }
}

#[test]
fn a_run_that_trained_all_of_a_policy_is_one_to_adapt_and_one_that_trained_an_adapter_is_to_be_merged_first()
{
    let bench = Bench::with_policy();
    let text = check_trains(&bench, "again", &["--policy", "pretrained"], &[]);
    assert!(text.contains("path = \"pretrained/best/policy\""), "{text}");
    let output = bench.run(&["init", "--data", "data", "--policy", "again"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("which holds an adapter") && said.contains("`eva-rl merge again --out POLICY`"),
        "{said}"
    );
}

#[test]
fn a_new_policy_has_a_config_to_start_from() {
    let bench = Bench::with_policy();
    let text = check_trains(&bench, "new", &[], &["policy.new.hidden_size=16"]);
    assert!(text.contains("max_episode_length = 200"), "{text}");
}

#[test]
fn it_writes_nothing_over_and_names_what_is_wrong() {
    let bench = Bench::with_policy();
    let refused = |arguments: &[&str], told: &str| {
        let before = bench.names();
        let output = bench.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(told), "{said}");
        assert_eq!(bench.names(), before);
    };
    refused(&["init", "--data", "data", "--out", "adapt.toml"], "\"adapt.toml\" exists already");
    refused(&["init", "--data", "data", "--method", "eva"], "--method eva adapts a policy");
    refused(&["init", "--data", "nowhere"], "there is no dataset \"nowhere\"");
    refused(
        &["init", "--data", "data", "--env", "CartPole-v1"],
        "observations of 3 numbers, and `CartPole-v1` has 4",
    );
    refused(&["init", "--data", "data", "--policy", "policy", "--method", "evaa"], "possible values: ");
    let printed = bench.succeed(&["init", "--policy", "policy", "--data", "data", "--env-kwarg", "g=3"]);
    assert!(printed.contains("kwargs = { g = 3 }") && printed.contains("\n# patience = …\n"), "{printed}");
}
