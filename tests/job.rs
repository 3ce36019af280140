//! The main job: a dataset, a policy, EVA, offline and online updates, evaluation.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::methods::test_each_method;
use crate::support::{ADAPT, Bench, PRETRAIN, test_rows};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Every file below a folder, by its path within.
fn files(folder: &Path, above: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{above}{}", path.file_name().unwrap().to_str().unwrap());
        match path.is_dir() {
            true => files(&path, &format!("{name}/"), found),
            false => found.push(name),
        }
    }
}

/// Each file of a run has its row in the reference.
#[track_caller]
fn check_described(run: &Path) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/run-folder.md");
    let page = fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let known: Vec<&str> = rows.flat_map(|names| names.split(", ")).collect();
    assert!(known.len() > 10, "{known:?}");
    let mut found = Vec::new();
    files(run, "", &mut found);
    for file in found {
        let parts: Vec<&str> = file
            .split('/')
            .map(|part| match part {
                number if number.parse::<u32>().is_ok() => "NNNNNNNN",
                events if events.starts_with("events.out.tfevents.") => "events.out.tfevents.…",
                other => other,
            })
            .collect();
        let name = parts.join("/").replace("checkpoints/NNNNNNNN/adapter", "best/adapter");
        assert!(known.contains(&name.as_str()), "docs/reference/run-folder.md has no row for {file}");
    }
}

#[test]
fn a_policy_is_adapted_and_its_run_folder_is_whole() {
    let bench = Bench::with_policy();
    let base = fs::read(bench.path("policy/model.safetensors")).unwrap();
    let said = bench.succeed(&["train", "adapt.toml", "--out", "run"]);
    check_described(&bench.path("run"));
    assert!(said.contains("before: return") && said.contains("after:  return"), "{said}");
    assert!(said.contains("tensorboard --logdir run"), "{said}");

    for name in [
        "config.toml",
        "metrics.jsonl",
        "evaluation.json",
        "README.md",
        "before.gif",
        "after.gif",
        "best/adapter/adapter_config.json",
        "checkpoints/00000040/adapter/adapter_model.safetensors",
        "checkpoints/00000040/training_state.safetensors",
        "checkpoints/00000040/state.json",
    ] {
        assert!(bench.path("run").join(name).is_file(), "the run lacks {name}");
    }
    let events = fs::read_dir(bench.path("run")).unwrap();
    let is_event = |name: &str| name.starts_with("events.out.tfevents.");
    assert!(events.into_iter().any(|entry| is_event(&entry.unwrap().file_name().to_string_lossy())));
    let by_env_steps = fs::read_dir(bench.path("run/env_steps")).unwrap();
    assert!(by_env_steps.into_iter().any(|entry| is_event(&entry.unwrap().file_name().to_string_lossy())));
    let card = fs::read_to_string(bench.path("run/README.md")).unwrap();
    assert!(card.contains("`before.gif`, `after.gif`"), "{card}");
    let evaluations = fs::read_to_string(bench.path("run/evaluation.json")).unwrap();
    let evaluations: Vec<serde_json::Value> = serde_json::from_str(&evaluations).unwrap();
    let steps: Vec<u64> = evaluations.iter().map(|found| found["env_steps"].as_u64().unwrap()).collect();
    assert_eq!(steps, [0, 400, 1200], "at the updates 0, 20 and 40, by rounds of two episodes of 200 steps");
    assert_eq!(fs::read(bench.path("policy/model.safetensors")).unwrap(), base);

    let metrics = fs::read_to_string(bench.path("run/metrics.jsonl")).unwrap();
    for tag in [
        "rollout/ep_rew_mean",
        "rollout/ep_len_mean",
        "eval/mean_reward",
        "eval/std_reward",
        "eval/normalized_score",
        "time/fps",
        "train/loss",
        "train/learning_rate",
        "eva/converged_fraction",
        "eva/rank/encoder.h.0.attn.c_attn",
        "eva/explained_variance/encoder.h.0.mlp.c_proj",
    ] {
        assert!(metrics.contains(&format!("\"{tag}\"")), "metrics.jsonl lacks {tag}");
    }

    // The config as run can be run again, and gives the same run.
    bench.succeed(&["train", "run/config.toml", "--out", "again"]);
    let adapter = "checkpoints/00000040/adapter/adapter_model.safetensors";
    let read = |run: &str| fs::read(bench.path(run).join(adapter)).unwrap();
    assert_eq!(read("run"), read("again"));
    let evaluations = |run: &str| fs::read_to_string(bench.path(run).join("evaluation.json")).unwrap();
    assert_eq!(evaluations("run"), evaluations("again"));
}

#[test]
fn ranks_are_shared_out_and_spent_exactly() {
    let bench = Bench::with_policy();
    let arguments = ["eva", "policy", "--data", "data", "--rank", "2", "--out", "adapter", "--json"];
    let found = json(&bench.succeed(&arguments));
    let ranks: Vec<i64> =
        found["sites"].as_array().unwrap().iter().map(|site| site["rank"].as_i64().unwrap()).collect();
    assert_eq!(ranks.iter().sum::<i64>(), 8);
    assert!(ranks.iter().all(|rank| *rank <= 4), "{ranks:?}");
    let inspected = json(&bench.succeed(&["inspect", "adapter", "--json"]));
    let sites = inspected["sites"].as_array().unwrap();
    assert!(sites.iter().all(|site| site["scale"].as_f64() == Some(1.0)), "{inspected}");
    assert_eq!(sites.len(), ranks.iter().filter(|rank| **rank > 0).count());
}

#[test]
fn a_fresh_eva_adapter_and_its_merge_leave_the_evaluation_unchanged() {
    let bench = Bench::with_policy();
    bench.succeed(&["eva", "policy", "--data", "data", "--rank", "2", "--out", "adapter"]);
    let merged =
        json(&bench.succeed(&["merge", "policy", "--adapter", "adapter", "--out", "merged", "--json"]));
    assert_eq!(merged, serde_json::json!({ "policy": "policy", "adapter": "adapter", "merged": "merged" }));
    let evaluate = |arguments: &[&str]| {
        let fixed = ["--env", "Pendulum-v1", "--episodes", "3", "--json"];
        json(&bench.succeed(&[&["evaluate"], arguments, &fixed].concat()))["results"].clone()
    };
    let base = evaluate(&["policy"]);
    assert_eq!(base, evaluate(&["policy", "--adapter", "adapter"]));
    assert_eq!(base, evaluate(&["merged"]));
}

mod every_method_trains_on_discrete_actions_too {
    use super::*;

    /// Half of a short pretraining on CartPole, then `adapter`; the loss on the same batch falls.
    fn row(name: &str, adapter: &str) {
        let bench = Bench::new();
        let collect =
            ["collect", "--env", "CartPole-v1", "--policy", "scripted", "--episodes", "4", "--out", "data"];
        bench.succeed(&collect);
        let text = PRETRAIN.replace("Pendulum-v1", "CartPole-v1");
        bench.write("pretrain.toml", &text.replace("max_episode_length = 200", "max_episode_length = 500"));
        bench.succeed(&["train", "pretrain.toml", "--out", "pretrained"]);
        let text = ADAPT.replace("Pendulum-v1", "CartPole-v1").replace("kwargs = { g = 12.0 }", "");
        bench.write("adapt.toml", &text.replace("path = \"policy\"", "path = \"pretrained/best/policy\""));
        let adapter =
            format!("adapter={}", adapter.replace("LORA", "{ rank = 2, alpha = 2.0, dropout = 0.0 }"));
        let more = [
            "online=",
            "offline.updates=60",
            "optimiser.learning_rate=1e-2",
            "loss={ behaviour_cloning = {} }",
            "data.validation_episodes=1",
        ];
        let sets: Vec<&str> = [adapter.as_str()].iter().chain(&more).flat_map(|set| ["--set", set]).collect();
        bench.succeed(&[&["train", "adapt.toml", "--out", "run"], &sets[..]].concat());
        let evaluations = json(&fs::read_to_string(bench.path("run/evaluation.json")).unwrap());
        let losses: Vec<f64> = evaluations.as_array().unwrap().iter().map(loss).collect();
        assert!(losses.last() < losses.first(), "{name}: {losses:?}");
    }

    fn loss(evaluated: &serde_json::Value) -> f64 {
        evaluated["validation_loss"].as_f64().unwrap()
    }

    test_each_method!(row);
    test_rows! { row: full_fine_tuning = "{ full_fine_tuning = {} }", }
}

#[test]
fn a_policy_collects_and_its_dataset_is_inspected() {
    let bench = Bench::with_policy();
    bench.succeed(&[
        "collect",
        "--env",
        "Pendulum-v1",
        "--policy",
        "policy",
        "--noise",
        "0.1",
        "--episodes",
        "3",
        "--out",
        "more",
    ]);
    let found = json(&bench.succeed(&["inspect", "more", "--json"]));
    assert_eq!((found["episodes"].as_i64(), found["steps"].as_i64()), (Some(3), Some(600)));
    let policy = json(&bench.succeed(&["inspect", "policy", "--json"]));
    assert_eq!(policy["context_length"], 4);
    let run = json(&bench.succeed(&["inspect", "pretrained", "--json"]));
    assert_eq!(run["updates"], 20);
}

#[test]
fn results_do_not_depend_on_how_many_environments_step_together() {
    let bench = Bench::with_policy();
    let mean = |count: &str| {
        let arguments =
            ["evaluate", "policy", "--env", "Pendulum-v1", "--episodes", "6", "--num-envs", count, "--json"];
        json(&bench.succeed(&arguments))["results"][0]["mean_return"].as_f64().unwrap()
    };
    // Batches of another size round differently: by up to 3e-6 on three instruction sets.
    assert!((mean("1") - mean("6")).abs() < 1e-3);
}

#[test]
fn environments_are_listed_with_their_spaces() {
    let listed = json(&Bench::new().succeed(&["envs", "--json"]));
    let ids: Vec<&str> = listed.as_array().unwrap().iter().map(|env| env["id"].as_str().unwrap()).collect();
    for id in ["Acrobot-v1", "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"] {
        assert!(ids.contains(&id), "{ids:?} lacks {id}");
    }
}

#[test]
fn a_run_its_best_and_a_checkpoint_are_policies_from_every_folder() {
    let bench = Bench::with_policy();
    fs::rename(bench.path("policy"), bench.path("po\"l\"")).unwrap();
    let text = fs::read_to_string(bench.path("adapt.toml")).unwrap();
    bench.write("adapt.toml", &text.replace("path = \"policy\"", "path = 'po\"l\"'"));
    bench.succeed(&["train", "adapt.toml", "--out", "run", "--set", "online.odt.exploration.rounds=1"]);
    let evaluate = |policy: &str, adapter: &[&str], folder: &str| {
        let arguments =
            [&["evaluate", policy, "--env", "Pendulum-v1", "--episodes", "2", "--json"], adapter].concat();
        let output = bench.command(&arguments).current_dir(bench.path(folder)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        json(&String::from_utf8(output.stdout).unwrap())["results"].clone()
    };
    let expected = evaluate("po\"l\"", &["--adapter", "run/best/adapter"], ".");
    for path in ["run", "run/best", "run/best/adapter"] {
        assert_eq!(evaluate(path, &[], "."), expected, "{path}");
    }
    assert_eq!(evaluate("..", &[], "run/best"), expected);
    evaluate("run/checkpoints/00000005", &[], ".");
    assert!(bench.succeed(&["inspect", "run/best"]).starts_with("kind: adapter"));
    assert!(bench.succeed(&["inspect", "run"]).contains("resumable: it is finished"));
    bench.succeed(&["merge", "run", "--out", "merged"]);
    assert_eq!(evaluate("merged", &[], "."), expected);

    // The model card's folders are there, whatever the current folder, and its text is no code.
    let card = fs::read_to_string(bench.path("run/README.md")).unwrap();
    let named: Vec<&str> = card.lines().filter(|line| line.contains("from_pretrained(")).collect();
    assert_eq!(named.len(), 2, "{card}");
    for line in named {
        let text = line[line.find('"').unwrap()..].strip_suffix(')').unwrap();
        let path: String = serde_json::from_str(text).unwrap();
        assert!(Path::new(&path).is_absolute() && Path::new(&path).is_dir(), "{path}");
    }

    // Both folders move.
    fs::create_dir(bench.path("moved")).unwrap();
    for name in ["po\"l\"", "run"] {
        fs::rename(bench.path(name), bench.path("moved").join(name)).unwrap();
    }
    assert_eq!(evaluate("moved/run", &[], "."), expected);
    fs::rename(bench.path("moved/po\"l\""), bench.path("moved/away")).unwrap();
    let output = bench.run(&["evaluate", "moved/run", "--env", "Pendulum-v1"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("is not there; give its folder or hf:OWNER/NAME as POLICY"), "{said}");
}

#[test]
fn data_of_another_environment_are_told() {
    let bench = Bench::with_policy();
    let said = |kwargs: &str| {
        let set = format!("env.kwargs={kwargs}");
        let output = bench.run(&[
            "train",
            "adapt.toml",
            "--set",
            &set,
            "--set",
            "online.odt.exploration.rounds=1",
            "--out",
            kwargs,
        ]);
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(said("{ g = 12.0 }").contains("recorded with g = the default, and the run has 12.0"));
    assert!(!said("{}").contains("differ"));
}
