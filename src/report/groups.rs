//! Which runs are seeds of one group: those that differ in nothing but the seed.
//!
//! Everything else that the resolved config says tells groups apart, how often and how a run is evaluated too,
//! because that changes what is shown of it. So does how far a run has come that is not finished.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::config::RunConfig;
use crate::support::errors::InputError;

/// A run's settings by their dotted keys.
pub type Settings = BTreeMap<String, String>;

/// Keys that change neither what a run computes nor what is shown of it, and the task's own.
const LEFT_OUT: [&str; 8] = [
    "seed",
    "checkpoint.every",
    "checkpoint.keep",
    "env.bridge.processes",
    "env.bridge.timeout_secs",
    "env.bridge.restarts",
    "env.id",
    "env.kwargs",
];

/// Keys that the field has a short word for, by how they end.
const WORDS: [(&str, &str); 6] = [
    ("optimiser.learning_rate", "learning rate"),
    ("optimiser.weight_decay", "weight decay"),
    (".alpha", "alpha"),
    (".dropout", "dropout"),
    (".rho", "rho"),
    (".tau", "tau"),
];

/// What a label says of a setting that is absent.
const ABSENT: &str = "none";

/// The settings of a config that tell groups apart; how its evaluations acted is what `evaluations`, the text of its
/// `evaluation.json`, says.
pub fn settings(config: &RunConfig, evaluations: &str) -> anyhow::Result<Settings> {
    let mut settings = Settings::new();
    flatten("", &serde_json::to_value(config)?, &mut settings);
    let recorded: Vec<Value> = serde_json::from_str(evaluations)?;
    let found = recorded.iter().filter_map(|evaluated| evaluated["targets"].get(0));
    let (mut inferences, mut caps) = (BTreeSet::new(), BTreeSet::new());
    for evaluation in found {
        // Evaluations that do not say so acted as exploration does, up to the policy's own best return.
        match evaluation.get("inference") {
            Some(inference) => {
                inferences.insert(text(inference));
                caps.insert(evaluation.get("max_return_to_go").map_or(ABSENT.to_owned(), text));
            }
            None => {
                inferences.insert(settings.get("rollout.inference").cloned().unwrap_or_default());
                caps.insert("the policy's".to_owned());
            }
        }
    }
    let joined = |words: BTreeSet<String>| words.into_iter().collect::<Vec<_>>().join(" and ");
    settings.insert("evaluation.inference".to_owned(), joined(inferences));
    settings.insert("evaluation.max_return_to_go".to_owned(), joined(caps));
    Ok(settings)
}

/// `{"a": {"b": 1}}` as `a.b` = 1, without what is left out.
fn flatten(key: &str, value: &Value, into: &mut Settings) {
    if LEFT_OUT.contains(&key) {
        return;
    }
    match value {
        Value::Object(table) if !table.is_empty() => {
            for (name, value) in table {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten(&key, value, into);
            }
        }
        _ => {
            into.insert(key.to_owned(), text(value));
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => ABSENT.to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => format!("{}", number.as_f64().unwrap_or(f64::NAN)),
        _ => value.to_string(),
    }
}

/// A run as far as labels look at it.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// Its task.
    pub task: &'a str,
    /// What its method is called.
    pub method: &'a str,
    /// Its settings.
    pub settings: &'a Settings,
}

/// Each run's group: its method, with every setting in which the method's groups on some task differ.
pub fn labels(runs: &[Labelled]) -> Vec<String> {
    let telling = telling_keys(runs);
    let label = |run: &Labelled| {
        let mut label = run.method.to_owned();
        for key in &telling[run.method] {
            let value = run.settings.get(*key).map_or(ABSENT, String::as_str);
            let word = WORDS.iter().find(|(end, _)| key.ends_with(end));
            label += &match word {
                Some((_, word)) => format!(", {word} {value}"),
                None => format!(", {key}={value}"),
            };
        }
        label
    };
    runs.iter().map(label).collect()
}

/// By method, the keys whose values differ between its runs on one task.
fn telling_keys<'a>(runs: &[Labelled<'a>]) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut by_task: BTreeMap<(&str, &str), Vec<&Settings>> = BTreeMap::new();
    for run in runs {
        by_task.entry((run.method, run.task)).or_default().push(run.settings);
    }
    let mut telling: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for ((method, _), settings) in by_task {
        let keys: BTreeSet<&str> =
            settings.iter().flat_map(|settings| settings.keys()).map(String::as_str).collect();
        let differs = |key: &&str| settings.iter().any(|other| other.get(*key) != settings[0].get(*key));
        telling.entry(method).or_default().extend(keys.into_iter().filter(differs));
    }
    telling
}

/// What is said where a group has a seed twice: a repeated seed is not an independent run.
pub fn repeated_seeds<'a>(runs: impl Iterator<Item = (String, u64, &'a Path)>) -> Vec<String> {
    let mut folders: BTreeMap<(String, u64), Vec<&Path>> = BTreeMap::new();
    for (group, seed, folder) in runs {
        folders.entry((group, seed)).or_default().push(folder);
    }
    let repeated = folders.into_iter().filter(|(_, folders)| folders.len() > 1);
    repeated
        .map(|((group, seed), folders)| {
            let names: Vec<String> = folders.iter().map(|folder| format!("{folder:?}")).collect();
            let (count, names) = (folders.len(), names.join(", "));
            format!("{group}: {count} runs have the seed {seed} and are not independent: {names}")
        })
        .collect()
}

/// Reads a run's evaluations as text.
pub fn read_evaluations(run: &Path) -> anyhow::Result<String> {
    let path = run.join("evaluation.json");
    let text = eva_rl_agents::read_text(&path)
        .map_err(|error| InputError(format!("cannot read {path:?}: {error}")))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const CACHED: &str = r#"[{"updates": 0, "targets": [{"mean_return": 1.0}]}]"#;

    fn demo(overrides: &[&str]) -> RunConfig {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/configs/online-dt.toml");
        let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
        config::load(&path, &overrides).unwrap()
    }

    /// The labels of runs of the demo with these overrides and evaluations.
    fn labels_of(runs: &[(&[&str], &str)]) -> Vec<String> {
        let configs: Vec<RunConfig> = runs.iter().map(|(overrides, _)| demo(overrides)).collect();
        let methods: Vec<String> = configs.iter().map(RunConfig::method_label).collect();
        let settings: Vec<Settings> =
            configs.iter().zip(runs).map(|(config, (_, text))| settings(config, text).unwrap()).collect();
        let runs: Vec<Labelled> = methods
            .iter()
            .zip(&settings)
            .map(|(method, settings)| Labelled { task: "t", method, settings })
            .collect();
        labels(&runs)
    }

    /// The labels of the demo and of the same with one more override.
    #[track_caller]
    fn check(changed: &str, wanted: [&str; 2]) {
        let found = labels_of(&[(&[], CACHED), (&[changed], CACHED), (&["seed=9", changed], CACHED)]);
        let wanted = wanted.map(|end| format!("EVA, rank 8, ODT{end}"));
        assert_eq!(found, [&wanted[0], &wanted[1], &wanted[1]].map(String::clone));
    }

    #[test]
    fn seeds_and_what_changes_no_number_are_one_group() {
        for same in ["seed=2", "checkpoint.every=7", "checkpoint.keep=3"] {
            check(same, ["", ""]);
        }
        let bridged = ["env.id='envpool:Pendulum-v1'", "env.bridge={ processes = 1 }"];
        let other = [bridged[0], "env.bridge={ processes = 4, timeout_secs = 9.0, restarts = 1 }"];
        assert_eq!(labels_of(&[(&bridged, CACHED), (&other, CACHED)]), ["EVA, rank 8, ODT"; 2]);
    }

    #[test]
    fn what_differs_has_its_short_word() {
        check("optimiser.learning_rate=0.01", [", learning rate 0.001", ", learning rate 0.01"]);
        check("adapter.eva.lora.alpha=16.0", [", alpha 8", ", alpha 16"]);
        check("adapter.eva.lora.dropout=0.1", [", dropout 0", ", dropout 0.1"]);
        check("adapter.eva.rho=1.0", [", rho 2", ", rho 1"]);
        check("adapter.eva.tau=0.99", [", tau 0.996", ", tau 0.99"]);
        check("optimiser.weight_decay=0.01", [", weight decay 0", ", weight decay 0.01"]);
    }

    #[test]
    fn what_has_no_short_word_has_its_key() {
        check("optimiser.batch_size=8", [", optimiser.batch_size=64", ", optimiser.batch_size=8"]);
        let warmup = "optimiser.schedule.cosine.warmup";
        check(&format!("{warmup}=10"), [&format!(", {warmup}=20"), &format!(", {warmup}=10")]);
        check("offline.updates=10", [", offline.updates=300", ", offline.updates=10"]);
        check("env.num_envs=4", [", env.num_envs=20", ", env.num_envs=4"]);
        check("evaluation.episodes=5", [", evaluation.episodes=40", ", evaluation.episodes=5"]);
        check("evaluation.every=50", [", evaluation.every=100", ", evaluation.every=50"]);
        let path = "policy.pretrained.path";
        check(&format!("{path}=other"), [&format!(", {path}=policies/pendulum"), &format!(", {path}=other")]);
        let targets = "evaluation.target_returns";
        check(
            &format!("{targets}=[-100.0]"),
            [&format!(", {targets}=[-150.0]"), &format!(", {targets}=[-100.0]")],
        );
        let data = [", data.datasets=[\"datasets/pendulum-g14-v0\"]", ", data.datasets=[\"a\",\"b\"]"];
        check("data.datasets=['a','b']", data);
        check("evaluation.patience=3", [", evaluation.patience=none", ", evaluation.patience=3"]);
    }

    #[test]
    fn a_label_holds_all_that_differs_and_nothing_else() {
        let slow = ["optimiser.learning_rate=0.01", "optimiser.batch_size=8"];
        let full = "adapter={ full_fine_tuning = {} }";
        let found = labels_of(&[(&[], CACHED), (&slow, CACHED), (&["env.num_envs=4", full], CACHED)]);
        let wanted = [
            "EVA, rank 8, ODT, optimiser.batch_size=64, learning rate 0.001",
            "EVA, rank 8, ODT, optimiser.batch_size=8, learning rate 0.01",
            "full fine-tuning, ODT", // its number of environments tells it from no other full fine-tuning
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_method_is_called_the_same_on_every_task() {
        let (slow, fast) = (demo(&[]), demo(&["optimiser.learning_rate=0.01"]));
        let (slow, fast) = (settings(&slow, CACHED).unwrap(), settings(&fast, CACHED).unwrap());
        let run = |task, settings| Labelled { task, method: "EVA", settings };
        let found = labels(&[run("a", &slow), run("a", &fast), run("b", &slow)]);
        assert_eq!(
            found,
            ["EVA, learning rate 0.001", "EVA, learning rate 0.01", "EVA, learning rate 0.001"]
        );
        // Tasks may each have their own settings.
        assert_eq!(labels(&[run("a", &slow), run("b", &fast)]), ["EVA", "EVA"]);
    }

    #[test]
    fn how_evaluations_acted_tells_groups_apart() {
        let said = |inference: &str, cap: &str| {
            format!(r#"[{{"targets": [{{"inference": "{inference}", "max_return_to_go": {cap}}}]}}]"#)
        };
        let found =
            labels_of(&[(&[], CACHED), (&[], &said("window", "null")), (&[], &said("window", "5.0"))]);
        let (inference, cap) = ("evaluation.inference", "evaluation.max_return_to_go");
        let label = |acts: &str, up_to: &str| format!("EVA, rank 8, ODT, {inference}={acts}, {cap}={up_to}");
        assert_eq!(found, [label("cached", "the policy's"), label("window", "none"), label("window", "5")]);
    }

    #[test]
    fn a_repeated_seed_is_told_with_its_folders() {
        let run = |group: &str, seed, folder| (group.to_owned(), seed, Path::new(folder));
        let runs = [run("EVA", 1, "a"), run("EVA", 1, "b"), run("EVA", 2, "c"), run("LoRA", 1, "d")];
        assert_eq!(
            repeated_seeds(runs.into_iter()),
            [r#"EVA: 2 runs have the seed 1 and are not independent: "a", "b""#]
        );
    }
}
