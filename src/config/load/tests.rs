//! What configs say, and what is said of their mistakes.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::config::{AdapterConfig, SweepPlan};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/configs/online-dt.toml");

fn load_demo(overrides: &[&str]) -> Result<RunConfig, ConfigError> {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    load(Path::new(DEMO), &overrides)
}

#[track_caller]
fn check_refused(overrides: &[&str], parts: &[&str]) {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    let message = match load_plan(Path::new(DEMO), &overrides) {
        Ok(_) => panic!("{overrides:?} was taken"),
        Err(error) => error.to_string(),
    };
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    assert!(!message.contains('\n'), "{message:?} is more than a line");
}

#[test]
fn every_config_in_the_repository_is_a_plan() {
    // Their own paths are relative to this folder, in which cargo runs tests.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let configs = |folder: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_file()).collect()
    };
    let (runs, sweeps) = (configs("configs"), configs("configs/sweeps"));
    assert!(runs.len() >= 4 && !sweeps.is_empty());
    runs.iter().for_each(|path| assert!(load(path, &[]).unwrap().plan().is_ok(), "{path:?}"));
    sweeps.iter().for_each(|path| assert!(!SweepPlan::read(path).unwrap().runs.is_empty(), "{path:?}"));
}

#[test]
fn a_written_config_is_read_back() {
    let config = load_demo(&[]).unwrap();
    assert_eq!(read::<RunConfig>(&to_toml(&config), "again", &[]).unwrap(), config);
}

#[test]
fn overrides_are_typed_by_the_schema() {
    let config = load_demo(&["seed=7", "adapter.eva.lora.rank=2", "env.id=CartPole-v1"]).unwrap();
    let AdapterConfig::Eva(eva) = &config.adapter else { panic!("the demo uses EVA") };
    assert_eq!((config.seed, eva.lora.rank.get(), config.env.id.as_str()), (7, 2, "CartPole-v1"));
    check_refused(
        &["seed=two"],
        &["--set seed=two: `seed`: expected a whole number of at least 0, found \"two\""],
    );
    check_refused(&["seed"], &["KEY=VALUE"]);
}

#[test]
fn a_misspelt_key_is_named_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("misspelt.toml");
    fs::write(&path, fs::read_to_string(DEMO).unwrap().replace("max_batches", "max_batchs")).unwrap();
    let message = load(&path, &[]).unwrap_err().to_string();
    assert!(message.contains("misspelt.toml:"), "{message}");
    assert!(
        message.contains("unknown key `adapter.eva.max_batchs`; did you mean `max_batches`?"),
        "{message}"
    );
}

/// The mistakes that are told of a text, one per line.
fn mistakes_in(text: &str, overrides: &[&str]) -> Vec<String> {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    match read::<RunConfig>(text, "mine.toml", &overrides) {
        Err(ConfigError::Mistakes { mistakes, .. }) => mistakes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_mistake_is_told_at_once_with_its_place_in_the_file() {
    let text = fs::read_to_string(DEMO).unwrap();
    let text = text.replace("gradient_clip", "gradient_clp").replace("every = 100", "every = 1.5");
    let text = text.replace("[offline]\nupdates = 300\n", "").replace("[adapter.eva]", "[adapter.evaa]");
    let text = text
        .replace("num_envs = 20\n", "")
        .replace("schedule = { cosine = { warmup = 20 } }", "schedule = \"cosine\"");
    let line = |needle: &str| text.lines().position(|line| line.starts_with(needle)).unwrap() + 1;
    let found = mistakes_in(&text, &["seed=-1", "env.kwarg.g=3"]);
    let wanted = [
        "mine.toml: missing table [offline] with `updates`".to_owned(),
        format!(
            "mine.toml:{}:10: `adapter` holds `evaa`; did you mean `eva`? expected one of ",
            line("[adapter")
        ),
        format!(
            "mine.toml:{}:1: unknown key `optimiser.gradient_clp`; did you mean `gradient_clip`?",
            line("gradient_clp")
        ),
        format!(
            "mine.toml:{}:1: `optimiser.schedule`: expected a table with one of `constant`, `linear`, `cosine`; such as schedule = {{ constant = {{ warmup = … }} }}, found \"cosine\"",
            line("schedule")
        ),
        format!(
            "mine.toml:{}:2: missing key `env.num_envs`, a whole number from 1 to 65536 (Environments that step together.)",
            line("[env]")
        ),
        format!(
            "mine.toml:{}:1: `evaluation.every`: expected a whole number of at least 1, found 1.5",
            line("every = 1.5")
        ),
        "--set env.kwarg.g=3: unknown key `env.kwarg`; did you mean `kwargs`?".to_owned(),
        "--set seed=-1: `seed`: expected a whole number of at least 0, found -1".to_owned(),
    ];
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    for wanted in wanted {
        assert!(found.iter().any(|found| found.starts_with(&wanted)), "{found:#?} lacks {wanted}");
    }
    let both = ConfigError::Mistakes { name: "mine.toml".to_owned(), mistakes: found };
    assert!(
        both.to_string().starts_with("mine.toml has 8 mistakes:\n  mine.toml: missing table [offline]"),
        "{both}"
    );
}

#[test]
fn an_empty_config_is_told_all_that_it_lacks() {
    let found = mistakes_in("", &[]);
    for key in [
        "`seed`",
        "`policy`",
        "[data]",
        "`adapter`",
        "`loss`",
        "[optimiser]",
        "[offline]",
        "[env]",
        "[evaluation]",
        "[checkpoint]",
    ] {
        assert!(
            found.iter().any(|found| found.starts_with("mine.toml: missing") && found.contains(key)),
            "{found:#?} lacks {key}"
        );
    }
    assert_eq!(found.len(), 10);
}

#[test]
fn two_tables_of_a_choice_are_both_named_wherever_the_choice_stands() {
    let both = "--set adapter.lora.rank=4: `adapter` holds both `eva` and `lora`; keep one, e.g. --set 'adapter={ lora = { rank = …, alpha = …, dropout = … } }' instead of the whole table";
    check_refused(&["adapter.lora.rank=4"], &[both]);
    for (set, both) in [
        ("policy.new.layers=2", "`policy` holds both `new` and `pretrained`"),
        ("loss.behaviour_cloning={}", "`loss` holds both `behaviour_cloning` and `online_dt`"),
        ("optimiser.schedule.linear.warmup=1", "`optimiser.schedule` holds both `cosine` and `linear`"),
        ("online.grpo.clip=0.2", "`online` holds both `grpo` and `odt`"),
    ] {
        check_refused(&[set], &[&format!("--set {set}: {both}; keep one, e.g. --set '")]);
    }
    check_refused(&["online={}"], &["`online` is empty: expected one of [online.odt], "]);
}

#[test]
fn an_earlier_name_of_a_key_or_of_a_word_is_told_with_today_s() {
    for (set, wanted) in [
        ("objective={ imitation = {} }", "unknown key `objective`; it is now called `loss`"),
        ("loss={ imitation = {} }", "`loss` holds `imitation`; it is now called `behaviour_cloning`"),
        ("data.evenly=true", "unknown key `data.evenly`; it is now called `balanced`"),
        ("optimiser.rule={ lamb = {} }", "`optimiser.rule`; it is now called `algorithm`"),
        (
            "optimiser.schedule={ linear = { warm_up = 3 } }",
            "`optimiser.schedule.linear.warm_up`; it is now called `warmup`",
        ),
        ("adapter.eva.directions=\"leading\"", "it is now called `components`"),
        ("adapter.eva.score=\"ratio\"", "it is now called `allocation`"),
        ("adapter.eva.stop=halves", "found \"halves\", which is now called \"split_half\""),
        ("adapter.eva.stop=turn", "found \"turn\", which is now called \"component_cosine\""),
        ("adapter.eva.components=trailing", "which is now called \"minor\""),
        ("adapter.eva.allocation=ratio", "which is now called \"explained_variance_ratio\""),
        ("adapter.eva.allocation=paper", "which is now called \"l1_norm\""),
        ("adapter={ corda = { mode = \"preview\" } }", "which is now called \"ipm\""),
        ("adapter={ corda = { mode = \"preserve\" } }", "which is now called \"kpm\""),
        ("adapter={ adalora = { warm_up = 1 } }", "it is now called `tinit`"),
        ("adapter={ adalora = { last = 1 } }", "it is now called `tfinal`"),
        ("adapter={ adalora = { every = 1 } }", "it is now called `delta_t`"),
        ("adapter={ adalora = { orthogonality = 0.5 } }", "it is now called `orth_reg_weight`"),
        ("online={ td3_odt = { critic_warm_up = 5 } }", "it is now called `critic_warmup`"),
        ("online={ td3_odt = { trace = 0.9 } }", "it is now called `lambda`"),
    ] {
        let found = mistakes_in(&fs::read_to_string(DEMO).unwrap(), &[set]);
        assert!(found.iter().any(|found| found.contains(wanted)), "{set}: {found:#?} lacks {wanted}");
    }
    let text = fs::read_to_string(DEMO).unwrap().replace("[loss.", "[objective.");
    let found = mistakes_in(&text, &[]);
    assert_eq!(found.len(), 1, "the table that has another name is not missing too: {found:#?}");
}

#[test]
fn set_takes_out_what_is_given_no_value() {
    assert!(load_demo(&["online="]).unwrap().online.is_none());
    assert!(load_demo(&["online.odt="]).unwrap().online.is_none());
    assert!(load_demo(&["env.kwargs.g="]).unwrap().env.kwargs.is_empty());
    assert!(
        load_demo(&["evaluation.patience=", "env.kwargs.none="]).is_ok(),
        "what is absent is out already"
    );
    assert_eq!(load_demo(&["env.id=\"\""]).unwrap().env.id, "");
    check_refused(&["seed="], &["--set seed=: missing key `seed`, a whole number"]);
    check_refused(&["onlin="], &["--set onlin=: there is no `onlin` to remove"]);
    // The table of one choice makes way for another's.
    let lora = ["adapter=", "adapter.lora={ rank = 2, alpha = 2.0, dropout = 0.0 }"];
    assert!(matches!(load_demo(&lora).unwrap().adapter, AdapterConfig::Lora(_)));
}

/// Every key of a table, with those of the tables in it.
fn leaves(path: &str, value: &toml::Value, found: &mut Vec<String>) {
    found.push(path.to_owned());
    if let toml::Value::Table(table) = value {
        table.iter().for_each(|(name, value)| leaves(&format!("{path}.{name}"), value, found));
    }
}

#[test]
fn no_message_speaks_of_rust_s_types() {
    let value = toml::Value::try_from(load_demo(&[]).unwrap()).unwrap();
    let mut keys = Vec::new();
    value.as_table().unwrap().iter().for_each(|(name, value)| leaves(name, value, &mut keys));
    assert!(keys.len() > 50);
    let ours = [
        "u16",
        "u32",
        "u64",
        "i64",
        "usize",
        "f32",
        "f64",
        "struct",
        "variant",
        "enum",
        "invalid type",
        "invalid value",
        "tuple",
        "sequence",
        "newtype",
        "element",
        "externally",
        "map,",
        "a map",
    ];
    let values =
        ["-1", "1.5", "true", "word", "[1]", "[[]]", "{}", "{ a = 1 }", "1979-05-27", "99999999999", ""];
    let mut refused = 0;
    for key in &keys {
        for value in values {
            let set = format!("{key}={value}");
            let Err(error) = load_demo(&[&set]) else { continue };
            let text = error.to_string();
            assert!(text.contains(key.as_str()), "{set}: {text}");
            assert!(!ours.iter().any(|word| text.contains(word)), "{set}: {text}");
            refused += 1;
        }
    }
    assert!(refused > 200, "{refused}");
}

#[test]
fn what_is_wrong_by_itself_is_named_before_what_it_is_wrong_with() {
    check_refused(
        &["optimiser.batch_size=0"],
        &["`optimiser.batch_size`: expected a whole number of at least 1, found 0"],
    );
    check_refused(
        &["env.num_envs=10000000"],
        &["`env.num_envs`: expected a whole number from 1 to 65536, found 10000000"],
    );
    check_refused(
        &["online.odt.replay_capacity=0"],
        &["`online.odt.replay_capacity`: expected a whole number of at least 1, found 0"],
    );
    check_refused(
        &["online.odt.exploration.rounds=0", "offline.updates=0"],
        &["`online.odt.exploration.rounds`: expected a whole number of at least 1, found 0"],
    );
    let grpo = "online={ grpo = { group_size = 0, discount = 0.99, clip = 0.2, exploration = { rounds = 1, updates_per_round = 1, target_return = 0.0 } } }";
    check_refused(&[grpo], &["`online.grpo.group_size`: expected a whole number of at least 2, found 0"]);
}

#[test]
fn all_values_that_cannot_be_are_told_at_once_with_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    let text = fs::read_to_string(DEMO).unwrap();
    let text =
        text.replace("num_envs = 20", "num_envs = 0").replace("gradient_clip = 0.25", "gradient_clip = -1");
    fs::write(&path, &text).unwrap();
    let set = ["evaluation.episodes=0".to_owned()];
    let line = |needle: &str| text.lines().position(|line| line.starts_with(needle)).unwrap() + 1;
    let found = load_plan(&path, &set).unwrap_err().to_string();
    let name = path.display();
    let wanted = [
        format!("{name} has 3 mistakes:"),
        format!(
            "  {name}:{}:1: `optimiser.gradient_clip`: expected a number above 0, found -1",
            line("gradient_clip")
        ),
        format!("  {name}:{}:1: `env.num_envs`: expected a whole number from 1 to 65536, found 0", line("num_envs")),
        "  --set evaluation.episodes=0: `evaluation.episodes`: expected a whole number of at least 1, found 0".to_owned(),
    ];
    assert_eq!(found, wanted.join("\n"));
}

#[test]
fn a_warm_up_that_outlasts_the_run_is_remarked_on() {
    let remarks = |set: &str| load_demo(&[set]).unwrap().plan().unwrap().remarks();
    let found = remarks("optimiser.schedule.cosine.warmup=10000");
    assert_eq!(
        found,
        [
            "`optimiser.schedule.cosine.warmup` is 10000, and the run has 600 updates: the learning rate never reaches its peak, it ends at 6.0% of it"
        ]
    );
    assert!(remarks("optimiser.schedule.cosine.warmup=600").is_empty());
}

#[test]
fn values_that_cannot_be_are_named() {
    check_refused(&["adapter.eva.rho=0.5"], &["adapter.eva.rho", "0.5", "[1, 1000]"]);
    check_refused(&["adapter.eva.tau=0.0"], &["adapter.eva.tau", "(0, 1]"]);
    check_refused(
        &["adapter.eva.lora.rank=0"],
        &["`adapter.eva.lora.rank`: expected a whole number from 1 to 65535, found 0"],
    );
    let few = ["optimiser.batch_size=1", "adapter.eva.max_batches=5"];
    check_refused(&few, &["optimiser.batch_size", "5", "a token for each of rho"]);
    // Enough for three kinds of tokens, and not for one.
    let few = ["optimiser.batch_size=1", "adapter.eva.max_batches=8"];
    assert!(load_demo(&few).unwrap().plan().is_ok());
    check_refused(
        &[&few[..], &["adapter.eva.tokens=[\"state\"]"]].concat(),
        &["max_batches", "8", "a token for each"],
    );
    check_refused(&["env.num_envs=0"], &["env.num_envs"]);
    check_refused(&["evaluation.target_returns=[inf]"], &["evaluation.target_returns", "finite"]);
    check_refused(&["env.target_return=nan"], &["env.target_return", "finite"]);
    check_refused(&["rollout.max_return_to_go=inf"], &["rollout.max_return_to_go", "finite"]);
    let grpo = "online={ grpo = { group_size = 5, discount = 0.9, clip = 0.2, exploration = { rounds = 1, updates_per_round = 1 } } }";
    assert!(load_demo(&[grpo]).unwrap().plan().is_ok());
    check_refused(
        &[grpo, "rollout.inference=window"],
        &["rollout.inference", "window", "cached", "online.grpo"],
    );
}
