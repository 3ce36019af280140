//! Wrong input: one sentence that names the thing, exit 2, nothing written.

use std::fs;

use crate::support::{Bench, copy_folder, golden};

#[track_caller]
fn check(bench: &Bench, arguments: &[&str], parts: &[&str]) {
    let before = bench.names();
    let output = bench.run(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{arguments:?} says more than a line: {said}");
    for part in parts {
        assert!(said.contains(part), "{arguments:?}: {said:?} lacks {part:?}");
    }
    assert_eq!(bench.names(), before, "{arguments:?} wrote something");
}

#[test]
fn configs() {
    let bench = Bench::with_policy();
    let text = fs::read_to_string(bench.path("adapt.toml")).unwrap();
    bench.write("misspelt.toml", &text.replace("gradient_clip", "gradient_clp"));
    check(&bench, &["train", "nowhere.toml"], &["nowhere.toml"]);
    std::os::unix::fs::symlink("/dev/zero", bench.path("endless.toml")).unwrap();
    check(&bench, &["train", "endless.toml"], &["endless.toml", "longer than 64 MiB"]);
    check(
        &bench,
        &["train", "misspelt.toml"],
        &["misspelt.toml:19:1", "`optimiser.gradient_clp`", "`gradient_clip`"],
    );
    bench.write("torn.toml", "seed = 1\n[env\nid = 2\n");
    check(&bench, &["train", "torn.toml"], &["torn.toml:2:"]);
    bench.write("two.toml", &text.replace("gradient_clip", "gradient_clp").replace("seed = 4", "seed = -4"));
    let output = bench.run(&["train", "two.toml"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 3), "{said}");
    assert!(
        said.starts_with("eva-rl: two.toml has 2 mistakes:\n  two.toml:2:1: `seed`: expected a whole number"),
        "{said}"
    );
    check(&bench, &["train", "adapt.toml", "--set", "adapter.eva.rho=0"], &["adapter.eva.rho", "[1, 1000]"]);
    check(&bench, &["train", "adapt.toml", "--set", "env.id=Pendulm-v1"], &["`Pendulm-v1`", "`Pendulum-v1`"]);
    check(&bench, &["train", "adapt.toml", "--set", "env.kwargs.gravity=3"], &["`gravity`", "`g`"]);
    let tokens = "adapter.eva.tokens=[\"state\", \"reward\"]";
    check(
        &bench,
        &["train", "adapt.toml", "--set", tokens],
        &["[\"reward\"]", "[\"return\",\"state\",\"action\"]"],
    );
    check(&bench, &["train", "adapt.toml", "--out", "data"], &["\"data\" exists already"]);
    let contradiction = ["train", "adapt.toml", "--set", "seed=4", "--seed", "3"];
    check(&bench, &contradiction, &["--seed 3 contradicts --set seed=4"]);
    check(
        &bench,
        &["train", "adapt.toml", "--set", "env.id=LunarLander-v3"],
        &["`gymnasium:LunarLander-v3`", "make bridge"],
    );
    check(
        &bench,
        &["train", "adapt.toml", "--set", "data.datasets=[\"datasets/hopper-medium-v0\"]"],
        &["there is no dataset \"datasets/hopper-medium-v0\"", "`make medium`"],
    );
    check(
        &bench,
        &["train", "adapt.toml", "--set", "data.datasets=[\"policy\"]"],
        &["\"policy\" is not a Minari dataset"],
    );
    check(
        &bench,
        &["evaluate", "edbeeching/decision-transformer-gym-hopper-medium", "--env", "Hopper-v5"],
        &["there is no policy", "hf:edbeeching/decision-transformer-gym-hopper-medium"],
    );
    check(&bench, &["train", "--resume", "data"], &["no config.toml"]);
    check(&bench, &["train", "adapt.toml", "--set", "policy.pretrained.path=nowhere"], &["\"nowhere\""]);
    check(&bench, &["train", "adapt.toml", "--set", "data.datasets=[\"nowhere\"]"], &["nowhere"]);
}

#[test]
fn videos() {
    let bench = Bench::with_policy();
    let evaluate = ["evaluate", "policy", "--env", "Pendulum-v1", "--gif", "video.mp4"];
    check(&bench, &evaluate, &["\"video.mp4\"", "expected a name that ends in .gif"]);
}

#[test]
fn datasets() {
    let bench = Bench::with_policy();
    bench.succeed(&[
        "collect",
        "--env",
        "CartPole-v1",
        "--policy",
        "random",
        "--episodes",
        "2",
        "--out",
        "cartpole",
    ]);
    let eva = |data: &'static str| ["eva", "policy", "--data", data, "--rank", "2", "--out", "adapter"];
    let override_data = "data.datasets=[\"cartpole\"]";
    check(
        &bench,
        &["train", "adapt.toml", "--set", override_data],
        &["\"cartpole\"", "observations of 4", "has 3"],
    );
    check(&bench, &eva("cartpole"), &["states of 3", "\"cartpole\"", "has 4"]);

    copy_folder(&bench.path("data/data"), &bench.path("torn/data"));
    let file = bench.path("torn/data/main_data.hdf5");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 3]).unwrap();
    check(&bench, &eva("torn"), &["\"torn\""]);
}

#[test]
fn policies_and_adapters() {
    let bench = Bench::with_policy();
    copy_folder(&bench.path("policy"), &bench.path("wide"));
    let config = fs::read_to_string(bench.path("wide/config.json")).unwrap();
    fs::write(bench.path("wide/config.json"), config.replace("\"hidden_size\": 16", "\"hidden_size\": 32"))
        .unwrap();
    copy_folder(&bench.path("policy"), &bench.path("mute"));
    fs::write(bench.path("mute/config.json"), config.replace("state_mean", "mean_of_states")).unwrap();
    bench.succeed(&["eva", "policy", "--data", "data", "--rank", "2", "--out", "adapter"]);
    copy_folder(&bench.path("adapter"), &bench.path("dora"));
    let adapter = fs::read_to_string(bench.path("dora/adapter_config.json")).unwrap();
    fs::write(
        bench.path("dora/adapter_config.json"),
        adapter.replace("\"use_dora\": false", "\"use_dora\": true"),
    )
    .unwrap();

    copy_folder(&bench.path("adapter"), &bench.path("loha"));
    fs::write(bench.path("loha/adapter_config.json"), adapter.replace("\"LORA\"", "\"LOHA\"")).unwrap();
    copy_folder(&bench.path("adapter"), &bench.path("ranks"));
    fs::write(bench.path("ranks/adapter_config.json"), adapter.replace("\"r\": 2", "\"r\": 5")).unwrap();
    bench.succeed(&["train", "adapt.toml", "--out", "run"]);
    bench.succeed(&["merge", "policy", "--adapter", "run/best/adapter", "--out", "other"]);
    copy_folder(&bench.path("policy"), &bench.path("hostile"));
    fs::remove_file(bench.path("hostile/model.safetensors")).unwrap();
    fs::copy(golden("hostile/runs-a-command.bin"), bench.path("hostile/pytorch_model.bin")).unwrap();
    copy_folder(&bench.path("policy"), &bench.path("deeper"));
    fs::write(bench.path("deeper/config.json"), config.replace("\"n_layer\": 1", "\"n_layer\": 2")).unwrap();

    let evaluate = |policy: &'static str| ["evaluate", policy, "--env", "Pendulum-v1"];
    let adapted =
        |adapter: &'static str| ["evaluate", "policy", "--env", "Pendulum-v1", "--adapter", adapter];
    check(
        &bench,
        &adapted("loha"),
        &["loha/adapter_config.json", "`peft_type` = \"LOHA\"", "expected \"LORA\""],
    );
    check(&bench, &adapted("ranks"), &["encoder.h.0", "rank 5"]);
    let other = ["evaluate", "other", "--env", "Pendulum-v1", "--adapter", "adapter"];
    check(&bench, &other, &["\"adapter\" was made for", "fingerprint", "this one has"]);
    check(&bench, &evaluate("hostile"), &["pytorch_model.bin", "system", "does not need"]);
    copy_folder(&bench.path("policy"), &bench.path("mish"));
    fs::write(bench.path("mish/config.json"), config.replace("\"relu\"", "\"mish\"")).unwrap();
    check(&bench, &evaluate("mish"), &["mish/config.json", "`activation_function`", "`mish`", "`relu`"]);
    fs::write(bench.path("torn.pt"), "no archive").unwrap();
    fs::write(bench.path("sizes.json"), "{\"state_dim\": 3, \"act_dim\": 1}").unwrap();
    let torn = ["inspect", "torn.pt", "--statistics", "sizes.json"];
    check(&bench, &torn, &["torn.pt", "no TorchScript module"]);
    check(&bench, &evaluate("deeper"), &["deeper/model.safetensors", "lacks `encoder.h.1.", "with shape"]);
    check(&bench, &evaluate("wide"), &["wide/model.safetensors", "encoder.wte.weight", "[1, 16]", "[1, 32]"]);
    check(&bench, &evaluate("mute"), &["state_mean"]);
    check(&bench, &evaluate("nowhere"), &["\"nowhere\""]);
    check(&bench, &["evaluate", "policy", "--env", "CartPole-v1"], &["states of 3", "`CartPole-v1` has 4"]);
    check(&bench, &adapted("dora"), &["use_dora", "true"]);
    check(&bench, &["merge", "policy", "--adapter", "adapter", "--out", "policy"], &["exists already"]);
    check(&bench, &["inspect", "nowhere"], &["nowhere"]);
    let eva = ["eva", "policy", "--data", "data", "--out", "new", "--rank"];
    check(&bench, &[&eva[..], &["17"]].concat(), &["--rank is 17", "16"]);
    check(&bench, &[&eva[..], &["2", "--target-modules", "c_atn"]].concat(), &["`c_atn`", "attn.c_attn"]);
    let tau = bench.run(&[&eva[..], &["2", "--tau", "1.5"]].concat());
    let said = String::from_utf8_lossy(&tau.stderr).into_owned();
    let wanted = "error: invalid value '1.5' for '--tau <X>': expected a number in (0, 1]\n";
    assert!(tau.status.code() == Some(2) && said.starts_with(wanted), "{said}");
}

#[test]
fn collecting() {
    let bench = Bench::new();
    let collect = |env: &'static str, policy: &'static str| {
        ["collect", "--env", env, "--policy", policy, "--episodes", "1", "--out", "out"]
    };
    check(&bench, &collect("Pendulum-v0", "scripted"), &["`Pendulum-v0`", "`Pendulum-v1`"]);
    check(&bench, &collect("Pendulum-v1", "expert"), &["\"expert\"", "scripted"]);
    let noisy = [&collect("Pendulum-v1", "random")[..], &["--noise", "nan"]].concat();
    check(&bench, &noisy, &["--noise", "NaN"]);
}

#[test]
fn benchmarks() {
    let bench = Bench::with_policy();
    let forward =
        |steps: &'static str| ["bench", "forward", "--policy", "policy", "--steps", steps, "--seconds", "0"];
    bench.succeed(&forward("200"));
    check(&bench, &forward("201"), &["201 steps", "timesteps and positions for 200"]);
    let eva = ["bench", "eva", "--policy", "policy", "--tokens", "reward"];
    check(&bench, &eva, &["[\"reward\"]", "[\"return\",\"state\",\"action\"]"]);
}

#[test]
fn episodes_longer_than_a_policy_knows_timesteps_are_told() {
    let bench = Bench::with_policy();
    let said = |arguments: &[&str]| {
        let output = bench.run(arguments);
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let told = "episodes of `Pendulum-v1` may last 200 steps, and the policy knows 50 timesteps";
    let new = ["train", "pretrain.toml", "--out", "short", "--set", "policy.new.max_episode_length=50"];
    assert!(said(&new).contains(told));
    let short = "short/best/policy";
    assert!(said(&["evaluate", short, "--env", "Pendulum-v1", "--episodes", "1"]).contains(told));
    let collect =
        ["collect", "--policy", short, "--env", "Pendulum-v1", "--episodes", "1", "--out", "played"];
    assert!(said(&collect).contains(told));
    assert!(!said(&["evaluate", "policy", "--env", "Pendulum-v1", "--episodes", "1"]).contains("timesteps"));
}

#[test]
fn d4rl_files() {
    let bench = Bench::new();
    let file = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/d4rl").join(name);
        path.to_str().unwrap().to_owned()
    };
    let convert = |name: &str, rest: &[&str], parts: &[&str]| {
        let path = file(name);
        check(&bench, &[&["convert", &path, "--out", "data"], rest].concat(), parts);
    };
    convert("nan.hdf5", &[], &["nan.hdf5", "NaN in `observations` at step 7, dimension 2"]);
    convert("rewards.hdf5", &[], &["has no `rewards`"]);
    convert("nowhere.hdf5", &[], &["nowhere.hdf5", "No such file"]);
    convert(
        "timeouts.hdf5",
        &["--env", "Hopper-v5"],
        &["`observations` of 3 numbers, expected 11 of `Hopper-v5`"],
    );
    convert("timeouts.hdf5", &["--env", "Hoper-v5"], &["`Hoper-v5`", "`Hopper-v5`"]);
    bench.write("data", "");
    check(&bench, &["convert", &file("timeouts.hdf5"), "--out", "data"], &["\"data\" exists already"]);
}

#[cfg(not(feature = "mpi"))]
#[test]
fn several_ranks_of_a_program_without_mpi_are_refused() {
    let bench = Bench::new();
    let mut command = bench.command(&["envs"]);
    command.env("OMPI_COMM_WORLD_SIZE", "2").env("OMPI_COMM_WORLD_RANK", "0");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{said}");
    assert!(said.contains("a launcher has started 2 processes") && said.contains("`make mpi`"), "{said}");
}
