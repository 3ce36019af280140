//! Each algorithm of `[online]` learns: CartPole-v1 from a policy that random data taught nothing, in seconds.
//!
//! The returns wanted are about two thirds of the least that three seeds ended with on each of three instruction
//! sets; the policy begins at 9.4, the return of one that always pushes the same way.

use serde_json::Value;

use crate::support::{Bench, test_rows};

const CONFIG: &str = r#"
seed = 2
[policy.new]
hidden_size = 32
layers = 1
heads = 2
dropout = 0.0
context_length = 5
max_episode_length = 500
return_scale = 100.0
target_return = 200.0
[data]
datasets = ["data"]
[adapter.full_fine_tuning]
[loss.online_dt]
initial_temperature = 0.1
temperature_learning_rate = 1e-3
[optimiser]
batch_size = 64
learning_rate = 1e-3
weight_decay = 0.0
gradient_clip = 0.25
schedule = { constant = { warmup = 10 } }
[offline]
updates = 50
[env]
id = "CartPole-v1"
num_envs = 16
target_return = 200.0
[evaluation]
every = 10000
episodes = 16
[checkpoint]
every = 10000
keep = 1
"#;

/// Explores and updates with the `[online]` table, and ends with at least the return `wanted`.
fn row(name: &str, (table, sets, wanted): (&str, &[&str], f64)) {
    let bench = Bench::new();
    let collect =
        ["collect", "--env", "CartPole-v1", "--policy", "random", "--episodes", "50", "--seed", "1"];
    bench.succeed(&[&collect, ["--out", "data"].as_slice()].concat());
    bench.write("config.toml", &format!("{CONFIG}[online.{name}]\n{table}"));
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    bench.succeed(&[&["train", "config.toml", "--out", "run"], sets.as_slice()].concat());
    let text = std::fs::read_to_string(bench.path("run/evaluation.json")).unwrap();
    let evaluations: Vec<Value> = serde_json::from_str(&text).unwrap();
    let returns: Vec<f64> =
        evaluations.iter().map(|made| made["targets"][0]["mean_return"].as_f64().unwrap()).collect();
    let [before, after] = returns[..] else { panic!("evaluated at the start and at the end: {returns:?}") };
    assert!(before < 20.0 && after > wanted, "from {before} to {after}, which should exceed {wanted}");
}

const TD3_ODT: &str = "
replay_capacity = 200
noise = 0.3
rl_weight = 5.0
critic_warmup = 100
discount = 0.97
lambda = 0.9
critic_width = 32
critic_learning_rate = 1e-3
polyak = 0.05
target_noise = 0.2
target_noise_clip = 0.5
policy_delay = 2
exploration = { rounds = 20, updates_per_round = 40 }
";

test_rows! {
    row:
    // What Online DT is conditioned on, it earns: 60, where the best of its data is 47.
    odt = (
        "replay_capacity = 100\nexploration = { rounds = 20, updates_per_round = 20 }",
        &["policy.new.return_scale=20.0", "env.target_return=60.0"],
        40.0,
    ),
    td3_odt = (TD3_ODT, &[], 50.0),
    grpo = (
        "group_size = 8\ndiscount = 0.99\nclip = 0.2\nexploration = { rounds = 20, updates_per_round = 20 }",
        &[],
        280.0,
    ),
    filtered_bc = (
        "replay_capacity = 50\nnoise = 0.3\nexploration = { rounds = 20, updates_per_round = 20 }",
        &[],
        60.0,
    ),
}
