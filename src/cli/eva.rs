//! The arguments of `eva`, and of its search, which `bench eva` measures.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use eva_rl_agents::adapter::{OptionChecks, Rank, RunSize};
use eva_rl_agents::adapter_init::eva::EvaOptions;
use serde_json::{Map, Value};

use super::shared::{GivenArgs, ReadingArgs, possible_values};
use crate::config::{Key, Kind};
use crate::support::errors::InputError;

/// EVA's options as flags: one for each key of [`EvaOptions`], with the same documentation, values and defaults.
#[derive(Clone, Debug)]
pub struct EvaFlags(EvaOptions);

const DEFAULT_RANK: u16 = 8;

/// Every key with the table that it lies in, `lora` or EVA's own.
fn keys() -> Vec<(Option<String>, Key)> {
    let mut keys = Vec::new();
    for key in Kind::of::<EvaOptions>().into_keys() {
        match key.kind {
            Kind::Table(inner) => {
                keys.extend(inner.into_iter().map(|inner| (Some(key.name.clone()), inner)));
            }
            _ => keys.push((None, key)),
        }
    }
    keys
}

/// `max_batches` as `--max-batches`.
fn flag(key: &str) -> String {
    key.replace('_', "-")
}

fn argument(key: &Key, default: Option<&Value>) -> Arg {
    let arg =
        Arg::new(key.name.clone()).long(flag(&key.name)).help(key.docs.trim_end_matches('.').to_owned());
    let shown = match default {
        Some(Value::String(word)) => word.clone(),
        Some(Value::Array(_)) | None => String::new(),
        Some(value) => value.to_string(),
    };
    let arg = match &key.kind {
        Kind::Flag => {
            arg.value_name("BOOL").num_args(0..=1).require_equals(true).default_missing_value("true")
        }
        Kind::Words(_) => arg.value_name("WORD"),
        Kind::List(each) if matches!(**each, Kind::Text) => {
            arg.value_name("NAME").num_args(1..).action(ArgAction::Append)
        }
        Kind::List(_) => arg.value_name("WORD").num_args(1..).action(ArgAction::Append),
        Kind::Whole { .. } => arg.value_name("N"),
        _ => arg.value_name("X"),
    };
    let one = match &key.kind {
        Kind::List(each) => each,
        kind => kind,
    };
    let arg = match one {
        Kind::Words(words) => arg.value_parser(PossibleValuesParser::new(possible_values(words.clone()))),
        Kind::Flag => arg.value_parser(PossibleValuesParser::new(["true", "false"])),
        Kind::Text => arg,
        kind => {
            let (kind, name) = (kind.clone(), key.name.clone());
            arg.value_parser(move |text: &str| match serde_json::from_str::<Value>(text) {
                Ok(number) if kind.has(&number) => Ok(text.to_owned()),
                _ => Err(format!("expected {}", kind.expected(&name))),
            })
        }
    };
    match shown.is_empty() {
        true => arg,
        false => arg.default_value(shown),
    }
}

/// What a key's flag was given; nothing where it was left out.
fn given(matches: &ArgMatches, key: &Key) -> Option<Value> {
    if matches.value_source(&key.name) != Some(ValueSource::CommandLine) {
        return None;
    }
    let texts: Vec<&String> = matches.get_many(&key.name).into_iter().flatten().collect();
    let word = |text: &String| Value::String(text.clone());
    Some(match &key.kind {
        Kind::List(_) => texts.into_iter().map(word).collect(),
        Kind::Words(_) => word(texts[0]),
        _ => serde_json::from_str(texts[0]).expect("its parser took it"),
    })
}

impl Args for EvaFlags {
    fn augment_args(command: Command) -> Command {
        let rank = Rank::try_from(DEFAULT_RANK).expect("it is not zero");
        let defaults = serde_json::to_value(EvaOptions::new(rank)).expect("options can be written as JSON");
        keys().into_iter().fold(command, |command, (table, key)| {
            let values = table.as_ref().map_or(&defaults, |table| &defaults[table]);
            // Alpha follows the rank.
            let default = values.get(&key.name).filter(|_| key.name != "alpha");
            command.arg(argument(&key, default))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for EvaFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let (mut own, mut lora) = (Map::new(), Map::new());
        for (table, key) in keys() {
            if let Some(value) = given(matches, &key) {
                let into = if table.is_some() { &mut lora } else { &mut own };
                into.insert(key.name, value);
            }
        }
        let rank = lora.get("rank").and_then(Value::as_u64).map_or(DEFAULT_RANK, |rank| rank as u16);
        let rank = Rank::try_from(rank)
            .map_err(|error| clap::Error::raw(ErrorKind::ValueValidation, format!("--rank: {error}\n")))?;
        let mut options =
            serde_json::to_value(EvaOptions::new(rank)).expect("options can be written as JSON");
        options["lora"].as_object_mut().expect("it is a table").extend(lora);
        options.as_object_mut().expect("it is a table").extend(own);
        let options = serde_json::from_value(options)
            .map_err(|error| clap::Error::raw(ErrorKind::ValueValidation, format!("{error}\n")))?;
        Ok(Self(options))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl EvaFlags {
    /// The options, checked for batches of so many windows.
    pub fn options(&self, batch_size: u32) -> anyhow::Result<EvaOptions> {
        let mut checks = OptionChecks::default();
        self.0.check(RunSize { batch_size: batch_size as usize, updates: 0 }, &mut checks);
        if let Some(bad) = checks.bad.first() {
            let key = flag(bad.key.trim_start_matches("lora.")).replace("optimiser.", "--");
            return Err(InputError(format!("--{key} is {}, and {}", bad.found, bad.wanted)).into());
        }
        Ok(self.0.clone())
    }
}

/// Arguments of `eva`.
#[derive(Debug, Args)]
pub struct EvaArgs {
    /// A policy folder, or hf:OWNER/NAME
    #[arg(required_unless_present = "activations", requires = "data")]
    pub policy: Option<PathBuf>,
    /// What the policy's files may lack
    #[command(flatten)]
    pub given: GivenArgs,
    /// A Minari dataset: a folder, or minari:NAMESPACE/NAME
    #[arg(long, value_name = "DATASET", required_unless_present = "activations", requires = "policy")]
    pub data: Option<PathBuf>,
    /// Instead of a policy and a dataset, a folder of any model's activations: safetensors shards and sites.json
    #[arg(long, value_name = "DIR", conflicts_with_all = ["policy", "data", "statistics", "task", "on_bad_episode", "clip_actions", "tokens", "patches", "dora", "batch_size"])]
    pub activations: Option<PathBuf>,
    /// How faults in the dataset are taken
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// EVA's options
    #[command(flatten)]
    pub eva: EvaFlags,
    /// Windows per batch
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: u32,
    /// Decides the windows, and what solvers draw
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// The adapter's folder, which must not exist
    #[arg(long, value_name = "ADAPTER")]
    pub out: PathBuf,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}
