//! Adapter folders in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::{Map, Value, json};
use tch::{Device, Kind, TchError, Tensor};

use super::{AdapterSet, Lora};
use crate::site::{Site, UnknownSite};

const PREFIX: &str = "base_model.model.";

/// Why an adapter folder cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each variant's sentence says what its fields are
pub enum AdapterError {
    #[error("cannot read {path:?}: {reason}")]
    Read { path: PathBuf, reason: String },

    #[error("cannot write {path:?}: {reason}")]
    Write { path: PathBuf, reason: String },

    #[error("{path:?} has `{key}` = {found}, and {wanted} is wanted")]
    Config { path: PathBuf, key: &'static str, found: String, wanted: &'static str },

    #[error("{path:?} holds `{name}`, which {reason}")]
    Tensor { path: PathBuf, name: String, reason: String },

    #[error("{path:?} adapts {source}")]
    Site { path: PathBuf, source: UnknownSite },

    #[error(
        "{path:?} adapts {site} with shapes {down:?} and {up:?}, and this policy's map is {input} → {output}"
    )]
    Shape { path: PathBuf, site: Site, down: Vec<i64>, up: Vec<i64>, input: i64, output: i64 },

    #[error("{path:?} adapts {site}, and this policy has no such map")]
    NoSuchSite { path: PathBuf, site: Site },
}

/// How the adapters began, kept in `adapter_config.json` as PEFT does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Origin {
    /// A random, B zero.
    Lora,
    /// EVA, with its rank ratio and convergence threshold.
    Eva {
        /// A site's rank may grow to `rho` times the mean rank.
        rho: f64,
        /// Cosine at which a component counts as converged.
        tau: f64,
    },
}

/// What `adapter_config.json` says beside the tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterFolder {
    /// The policy that the adapters belong to, as a path or a name.
    pub base: String,
    /// Rank of a site that `rank_pattern` does not name.
    pub rank: i64,
    /// `alpha` of a site that `alpha_pattern` does not name; the scale is `alpha / rank`.
    pub alpha: f64,
    /// How the adapters began.
    pub origin: Origin,
}

impl AdapterFolder {
    /// Writes the two files into `folder`, which exists.
    pub fn write(&self, adapters: &AdapterSet, folder: &Path) -> Result<(), AdapterError> {
        let mut rank_pattern = Map::new();
        let mut alpha_pattern = Map::new();
        for (site, lora) in &adapters.sites {
            let alpha = lora.scale * lora.rank() as f64;
            if lora.rank() != self.rank {
                rank_pattern.insert(site.to_string(), json!(lora.rank()));
            }
            if (alpha - self.alpha).abs() > 1e-12 {
                alpha_pattern.insert(site.to_string(), json!(alpha));
            }
        }
        let target_modules: Vec<String> = adapters.sites.keys().map(Site::to_string).collect();
        let (init, eva_config) = match self.origin {
            Origin::Lora => (json!(true), Value::Null),
            Origin::Eva { rho, tau } => {
                (json!("eva"), json!({ "rho": rho, "tau": tau, "adjust_scaling_factors": true }))
            }
        };
        let config = json!({
            "peft_type": "LORA",
            "base_model_name_or_path": self.base,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": adapters.dropout,
            "rank_pattern": rank_pattern,
            "alpha_pattern": alpha_pattern,
            "target_modules": target_modules,
            "fan_in_fan_out": true,
            "bias": "none",
            "use_rslora": false,
            "use_dora": false,
            "init_lora_weights": init,
            "eva_config": eva_config,
            "inference_mode": true,
            "task_type": null,
        });
        let path = folder.join("adapter_config.json");
        let text = serde_json::to_string_pretty(&config).expect("a JSON value can be written");
        fs::write(&path, text + "\n")
            .map_err(|error| AdapterError::Write { path, reason: error.to_string() })?;

        let path = folder.join("adapter_model.safetensors");
        let tensors: Vec<(String, Tensor)> = adapters
            .parameters()
            .into_iter()
            .map(|(name, tensor)| {
                (format!("{PREFIX}{name}"), tensor.detach().to_device(Device::Cpu).contiguous())
            })
            .collect();
        crate::safetensors::write(&tensors, &path)
            .map_err(|error| AdapterError::Write { path, reason: error.to_string() })
    }

    /// Reads the two files; the adapters are trainable and on `device`.
    ///
    /// `shape_of` gives a site's input and output widths, or nothing where the policy has no such map.
    pub fn read(
        folder: &Path,
        device: Device,
        shape_of: impl Fn(Site) -> Option<(i64, i64)>,
    ) -> Result<(Self, AdapterSet), AdapterError> {
        let path = folder.join("adapter_config.json");
        let text = fs::read_to_string(&path)
            .map_err(|error| AdapterError::Read { path: path.clone(), reason: error.to_string() })?;
        let config: Map<String, Value> = serde_json::from_str(&text)
            .map_err(|error| AdapterError::Read { path: path.clone(), reason: error.to_string() })?;
        let facts = Facts { path: &path, config: &config };
        facts.expect("peft_type", json!("LORA"), "\"LORA\"", false)?;
        facts.expect("use_dora", json!(false), "false (DoRA is not supported)", true)?;
        let rank = facts.number("r")?;
        let alpha = facts.number("lora_alpha")?;
        if rank < 1.0 || rank.fract() != 0.0 {
            return Err(facts.error("r", "a whole number of at least 1"));
        }
        let rslora = config.get("use_rslora").and_then(Value::as_bool).unwrap_or(false);
        let alphas = facts.pattern("alpha_pattern")?;
        let origin = match config.get("init_lora_weights").and_then(Value::as_str) {
            Some("eva") => {
                let field = |name: &str, default| config["eva_config"][name].as_f64().unwrap_or(default);
                let known = config.get("eva_config").is_some_and(Value::is_object);
                if known {
                    Origin::Eva { rho: field("rho", 2.0), tau: field("tau", 0.99) }
                } else {
                    Origin::Eva { rho: 2.0, tau: 0.99 }
                }
            }
            _ => Origin::Lora,
        };

        let path = folder.join("adapter_model.safetensors");
        let tensors = crate::safetensors::read(&path).map_err(|error: TchError| AdapterError::Read {
            path: path.clone(),
            reason: crate::first_line(&error),
        })?;
        let mut halves: BTreeMap<Site, (Option<Tensor>, Option<Tensor>)> = BTreeMap::new();
        for (name, tensor) in tensors {
            let refuse = |reason: &str| AdapterError::Tensor {
                path: path.clone(),
                name: name.clone(),
                reason: reason.to_owned(),
            };
            let module = name.strip_prefix(PREFIX).unwrap_or(&name);
            let (module, is_down) = if let Some(module) = module.strip_suffix(".lora_A.weight") {
                (module, true)
            } else if let Some(module) = module.strip_suffix(".lora_B.weight") {
                (module, false)
            } else {
                return Err(refuse("is neither a `lora_A.weight` nor a `lora_B.weight`"));
            };
            let site: Site =
                module.parse().map_err(|source| AdapterError::Site { path: path.clone(), source })?;
            let tensor = tensor.to_kind(Kind::Float).to_device(device);
            if tensor.isfinite().all().int64_value(&[]) == 0 {
                return Err(refuse("holds NaN or infinity, and finite numbers are wanted"));
            }
            let pair = halves.entry(site).or_default();
            if is_down {
                pair.0 = Some(tensor);
            } else {
                pair.1 = Some(tensor);
            }
        }

        let mut adapters = AdapterSet {
            dropout: config.get("lora_dropout").and_then(Value::as_f64).unwrap_or(0.0),
            ..AdapterSet::default()
        };
        for (site, pair) in halves {
            let (Some(down), Some(up)) = pair else {
                return Err(AdapterError::Tensor {
                    path,
                    name: site.to_string(),
                    reason: "has only one of A and B".to_owned(),
                });
            };
            let Some((input, output)) = shape_of(site) else {
                return Err(AdapterError::NoSuchSite { path, site });
            };
            let fits = matches!((down.size2(), up.size2()), (Ok((r, i)), Ok((o, q))) if r == q && r > 0 && i == input && o == output);
            if !fits {
                return Err(AdapterError::Shape {
                    path,
                    site,
                    down: down.size(),
                    up: up.size(),
                    input,
                    output,
                });
            }
            let rank = down.size()[0] as f64;
            let module = site.to_string();
            let alpha =
                alphas.iter().find(|(key, _)| key.is_match(&module)).map_or(alpha, |(_, alpha)| *alpha);
            let scale = if rslora { alpha / rank.sqrt() } else { alpha / rank };
            let lora = Lora { down: down.set_requires_grad(true), up: up.set_requires_grad(true), scale };
            adapters.sites.insert(site, lora);
        }
        let base = config.get("base_model_name_or_path").and_then(Value::as_str).unwrap_or_default();
        Ok((Self { base: base.to_owned(), rank: rank as i64, alpha, origin }, adapters))
    }
}

/// `adapter_config.json` with its path, for errors that name both.
struct Facts<'a> {
    path: &'a Path,
    config: &'a Map<String, Value>,
}

impl Facts<'_> {
    fn error(&self, key: &'static str, wanted: &'static str) -> AdapterError {
        let found = self.config.get(key).map_or("nothing".to_owned(), Value::to_string);
        AdapterError::Config { path: self.path.to_owned(), key, found, wanted }
    }

    fn expect(
        &self,
        key: &'static str,
        value: Value,
        wanted: &'static str,
        may_lack: bool,
    ) -> Result<(), AdapterError> {
        match self.config.get(key) {
            Some(found) if *found == value => Ok(()),
            None | Some(Value::Null) if may_lack => Ok(()),
            _ => Err(self.error(key, wanted)),
        }
    }

    fn number(&self, key: &'static str) -> Result<f64, AdapterError> {
        self.config.get(key).and_then(Value::as_f64).ok_or_else(|| self.error(key, "a number"))
    }

    /// A table from module patterns to numbers, matched as PEFT does: `(.*\.)?(key)$`.
    fn pattern(&self, key: &'static str) -> Result<Vec<(Regex, f64)>, AdapterError> {
        let mut rules = Vec::new();
        match self.config.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::Object(table)) => {
                for (pattern, value) in table {
                    let rule = Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$")).ok().zip(value.as_f64());
                    rules.push(
                        rule.ok_or_else(|| self.error(key, "a table from module patterns to numbers"))?,
                    );
                }
            }
            Some(_) => return Err(self.error(key, "a table from module patterns to numbers")),
        }
        Ok(rules)
    }
}
