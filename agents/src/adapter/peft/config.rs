//! What `adapter_config.json` asks for, read by PEFT's rules.

use std::path::Path;

use fancy_regex::Regex;
use serde_json::{Map, Value};

use super::origin::Origin;
use crate::adapter::error::AdapterError;
use crate::adapter::lora::Scaling;

/// Settings that would change the numbers in ways that this program does not compute, and what they must
/// be for them not to: null, false or empty.
const UNSUPPORTED: [(&str, &str); 8] = [
    ("lora_bias", "false (a bias beside B is not supported)"),
    ("layer_replication", "null (replicated layers are not supported)"),
    ("alora_invocation_tokens", "null (aLoRA is not supported)"),
    ("arrow_config", "null (Arrow is not supported)"),
    ("use_qalora", "false (QALoRA is not supported)"),
    ("use_bdlora", "null (BD-LoRA is not supported)"),
    ("megatron_config", "null (Megatron is not supported)"),
    ("target_parameters", "null (adapters of bare parameters are not supported)"),
];

/// Initialisations that leave the base as it was.
const INITIALISATIONS: [&str; 5] = ["true", "false", "\"gaussian\"", "\"eva\"", "\"orthogonal\""];

/// Which modules an adapter is for; the weights themselves say which have one.
#[derive(Debug)]
enum Targets {
    All,
    Matching(Regex),
    Named(Vec<String>),
}

/// An adapter's config.
#[derive(Debug)]
pub(super) struct PeftConfig {
    pub rank: i64,
    pub scaling: Scaling,
    pub dropout: f64,
    pub dora: bool,
    pub origin: Origin,
    pub fan_in_fan_out: bool,
    targets: Targets,
    ranks: Vec<(Regex, f64)>,
    alphas: Vec<(Regex, f64)>,
    saved_modules: Vec<String>,
    saves_biases: bool,
}

impl PeftConfig {
    /// Reads the config at `path`, and refuses what this program would compute differently from PEFT.
    pub fn read(config: &Map<String, Value>, path: &Path) -> Result<Self, AdapterError> {
        let fields = Fields { path, config };
        if config.get("peft_type").and_then(Value::as_str) != Some("LORA") {
            return Err(fields.error("peft_type", "\"LORA\""));
        }
        for (key, wanted) in UNSUPPORTED {
            let value = config.get(key).unwrap_or(&Value::Null);
            let off = matches!(value, Value::Null | Value::Bool(false));
            if !off && value.as_array().is_none_or(|items| !items.is_empty()) {
                return Err(fields.error(key, wanted));
            }
        }
        let start = config.get("init_lora_weights").unwrap_or(&Value::Null);
        if !start.is_null() && !INITIALISATIONS.contains(&start.to_string().as_str()) {
            let wanted = "one of true, false, \"gaussian\", \"eva\" and \"orthogonal\" (the others change the base's weights: let PEFT convert the adapter)";
            return Err(fields.error("init_lora_weights", wanted));
        }
        let rank = fields.number("r")?;
        if !(1.0..=65_535.0).contains(&rank) || rank.fract() != 0.0 {
            return Err(fields.error("r", "a whole number from 1 to 65,535"));
        }
        let dropout = config.get("lora_dropout").map_or(Some(0.0), Value::as_f64);
        let Some(dropout) = dropout.filter(|dropout| (0.0..1.0).contains(dropout)) else {
            return Err(fields.error("lora_dropout", "a probability below 1"));
        };
        let eva_config = &config.get("eva_config").unwrap_or(&Value::Null);
        Ok(Self {
            rank: rank as i64,
            scaling: Scaling {
                alpha: fields.number("lora_alpha")?,
                rank_stabilised: fields.flag("use_rslora")?,
            },
            dropout,
            dora: fields.flag("use_dora")?,
            // Ours beside convolutions has EVA's options, and `true`.
            origin: match start.as_str() == Some("eva") || eva_config.is_object() {
                true => Origin::Eva {
                    rho: eva_config["rho"].as_f64().unwrap_or(2.0),
                    tau: eva_config["tau"].as_f64(),
                },
                false => Origin::Lora,
            },
            fan_in_fan_out: fields.flag("fan_in_fan_out")?,
            targets: fields.targets()?,
            ranks: fields.pattern("rank_pattern")?,
            alphas: fields.pattern("alpha_pattern")?,
            saved_modules: fields.names("modules_to_save")?,
            saves_biases: !matches!(config.get("bias").and_then(Value::as_str), None | Some("none")),
        })
    }

    /// Whether the module gets an adapter.
    pub fn targets(&self, module: &str) -> bool {
        match &self.targets {
            Targets::All => true,
            Targets::Matching(rule) => rule.is_match(module).unwrap_or(true), // what cannot be said rules nothing out
            Targets::Named(ends) => {
                ends.iter().any(|end| module == end || module.ends_with(&format!(".{end}")))
            }
        }
    }

    /// Whether a tensor of the base is replaced by the adapter's own.
    pub fn replaces(&self, name: &str) -> bool {
        let path = format!(".{name}");
        let saved = self.saved_modules.iter().any(|module| path.contains(&format!(".{module}.")));
        saved || self.saves_biases && name.ends_with(".bias")
    }

    /// The rank of a module's adapter.
    pub fn rank_of(&self, module: &str) -> i64 {
        first_match(&self.ranks, module).map_or(self.rank, |rank| rank as i64)
    }

    /// The scaling of a module's adapter.
    pub fn scaling_of(&self, module: &str) -> Scaling {
        let alpha = first_match(&self.alphas, module).unwrap_or(self.scaling.alpha);
        Scaling { alpha, ..self.scaling }
    }
}

/// As PEFT's `get_pattern_key`: the first rule that matches wins.
fn first_match(rules: &[(Regex, f64)], module: &str) -> Option<f64> {
    rules.iter().find(|(rule, _)| matches(rule, module)).map(|(_, value)| *value)
}

/// Whether a rule matches; not where it would backtrack without end.
fn matches(rule: &Regex, module: &str) -> bool {
    rule.is_match(module).unwrap_or(false)
}

/// `adapter_config.json` with its path, for errors that name both.
struct Fields<'a> {
    path: &'a Path,
    config: &'a Map<String, Value>,
}

impl Fields<'_> {
    fn error(&self, key: &'static str, wanted: &str) -> AdapterError {
        let found = self.config.get(key).map_or("nothing".to_owned(), Value::to_string);
        AdapterError::Config { path: self.path.to_owned(), key, found, wanted: wanted.to_owned() }
    }

    fn number(&self, key: &'static str) -> Result<f64, AdapterError> {
        self.config.get(key).and_then(Value::as_f64).ok_or_else(|| self.error(key, "a number"))
    }

    fn flag(&self, key: &'static str) -> Result<bool, AdapterError> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.error(key, "true or false")),
        }
    }

    fn names(&self, key: &'static str) -> Result<Vec<String>, AdapterError> {
        let wanted = "a list of module names";
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                let names: Option<Vec<String>> =
                    items.iter().map(|item| Some(item.as_str()?.to_owned())).collect();
                names.ok_or_else(|| self.error(key, wanted))
            }
            Some(_) => Err(self.error(key, wanted)),
        }
    }

    /// A list of ends of names, a regular expression of the whole name, or `all-linear`.
    fn targets(&self) -> Result<Targets, AdapterError> {
        match self.config.get("target_modules") {
            None | Some(Value::Null) => Ok(Targets::All),
            Some(Value::String(text)) if text == "all-linear" => Ok(Targets::All),
            // What only Python's own engine can read rules nothing out.
            Some(Value::String(text)) => {
                Ok(Regex::new(&format!("^(?:{text})$")).map_or(Targets::All, Targets::Matching))
            }
            Some(_) => self.names("target_modules").map(Targets::Named),
        }
    }

    /// A table from module patterns to positive numbers, matched as PEFT does: `(.*\.)?(key)$`.
    fn pattern(&self, key: &'static str) -> Result<Vec<(Regex, f64)>, AdapterError> {
        let wanted = "a table from module patterns to positive numbers";
        let mut rules = Vec::new();
        match self.config.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::Object(table)) => {
                for (pattern, value) in table {
                    let rule = Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$")).ok();
                    let value = value.as_f64().filter(|value| *value > 0.0);
                    rules.push(rule.zip(value).ok_or_else(|| self.error(key, wanted))?);
                }
            }
            Some(_) => return Err(self.error(key, wanted)),
        }
        Ok(rules)
    }
}
