//! What the program says, word for word: the mistakes that users make most.
//!
//! The snapshots are in `tests/snapshots`; after a change on purpose, `INSTA_UPDATE=always` writes them again.

use crate::support::{Bench, test_rows};

/// Runs the program in a folder with a policy, a dataset and a config, and compares all that it says.
fn row(name: &str, arguments: &[&str]) {
    let bench = Bench::with_policy();
    let text = std::fs::read_to_string(bench.path("adapt.toml")).unwrap();
    bench.write(
        "misspelt.toml",
        &text.replace("gradient_clip", "gradient_clp").replace("seed = 4", "seed = -4"),
    );
    bench.write("earlier.toml", &text.replace("[loss.online_dt]", "[objective.online_dt]"));
    let output = bench.run(arguments);
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    let said = format!(
        "$ eva-rl {}\n{out}{err}exit code {}",
        arguments.join(" "),
        output.status.code().expect("it ends by itself")
    );
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, said);
    });
}

test_rows! {
    row:
    a_misspelt_config = &["train", "misspelt.toml"],
    an_earlier_config = &["train", "earlier.toml"],
    a_missing_config = &["train", "nowhere.toml"],
    a_value_out_of_range = &["train", "adapt.toml", "--set", "optimiser.batch_size=0"],
    two_tables_of_a_choice = &["train", "adapt.toml", "--set", "adapter.lora.rank=2"],
    an_existing_folder = &["train", "adapt.toml", "--out", "data"],
    an_unknown_environment = &["collect", "--env", "Pendulm-v1", "--policy", "random", "--episodes", "1", "--out", "new"],
    an_environment_of_python = &["collect", "--env", "LunarLander-v3", "--policy", "random", "--episodes", "1", "--out", "new"],
    an_unknown_option_of_an_environment = &["evaluate", "policy", "--env", "Pendulum-v1", "--env-kwarg", "gravity=3"],
    no_scripted_controller = &["collect", "--env", "Ant-v5", "--policy", "scripted", "--episodes", "1", "--out", "new"],
    a_policy_of_another_environment = &["evaluate", "policy", "--env", "CartPole-v1"],
    a_policy_that_is_not_there = &["evaluate", "edbeeching/decision-transformer-gym-hopper-medium", "--env", "Hopper-v5"],
    a_dataset_that_is_not_there = &["init", "--data", "nowhere"],
    a_rank_that_is_too_large = &["eva", "policy", "--data", "data", "--rank", "17", "--out", "new"],
    a_number_out_of_range = &["eva", "policy", "--data", "data", "--tau", "1.5", "--out", "new"],
    a_word_that_is_no_choice = &["eva", "policy", "--data", "data", "--stop", "turn", "--out", "new"],
    a_module_that_is_not_there = &["eva", "policy", "--data", "data", "--target-modules", "c_atn", "--out", "new"],
    nothing_to_merge = &["merge", "policy", "--out", "new"],
    nothing_to_inspect = &["inspect", "nowhere"],
    nothing_to_report = &["report", "nowhere", "--out", "new"],
}
