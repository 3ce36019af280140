//! Adapter folders in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tch::{Device, Tensor};

use super::rules::Rules;
use super::{AdapterSet, Lora, Part, Scaling};
use crate::site::{Site, UnknownSite};
use crate::tensor_file::{self, TensorFile, TensorFileError};

const PREFIX: &str = "base_model.model.";

/// The `target_modules` of a folder that replaces tensors and adapts no map; PEFT refuses an empty list.
const NO_TARGETS: &str = "dummy-target-modules";

/// The file of our own beside PEFT's two, which PEFT does not look at.
const OWN_FILE: &str = "eva_rl.json";

/// Its key that says which policy the adapters belong to.
const FINGERPRINT: &str = "base_fingerprint";

/// Why an adapter folder cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each variant's sentence says what its fields are
pub enum AdapterError {
    #[error("cannot read {path:?}: {reason}")]
    Read { path: PathBuf, reason: String },

    #[error("cannot write {path:?}: {reason}")]
    Write { path: PathBuf, reason: String },

    #[error("{path:?} has `{key}` = {found}, and {wanted} is wanted")]
    Config { path: PathBuf, key: &'static str, found: String, wanted: String },

    #[error(transparent)]
    Tensors(#[from] TensorFileError),

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

    #[error("{path:?} replaces `{name}` with shape {found:?}, and this policy has {wanted}")]
    Replaced { path: PathBuf, name: String, found: Vec<i64>, wanted: String },

    #[error(
        "{path:?} was made for the policy with fingerprint {found} ({base:?}), and this one has {wanted}"
    )]
    OtherBase { path: PathBuf, base: String, found: String, wanted: String },
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
        /// Cosine between a component and the last batch's at which it counts as converged, by PEFT's rule; absent
        /// where another rule ended the search.
        tau: Option<f64>,
    },
}

/// What an adapter folder says beside the adapters.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterFolder {
    /// The policy that the adapters belong to, as a path or a name.
    pub base: String,
    /// The same policy's [`fingerprint`], where the folder says.
    pub fingerprint: Option<String>,
    /// Rank of a site that `rank_pattern` does not name.
    pub rank: i64,
    /// The scaling of a site that `alpha_pattern` does not name.
    pub scaling: Scaling,
    /// How the adapters began.
    pub origin: Origin,
}

/// A checksum of a policy's weights by name: `[…]` each.
pub fn fingerprint(weights: &BTreeMap<String, Tensor>) -> String {
    let mut hasher = crc32fast::Hasher::new();
    for (name, tensor) in weights {
        hasher.update(name.as_bytes());
        hasher.update(&tensor_file::bytes(tensor));
    }
    format!("{:08x}", hasher.finalize())
}

impl AdapterFolder {
    /// Writes PEFT's two files, and our own, into `folder`, which exists.
    ///
    /// They hold [`AdapterSet::plain`], so that PEFT loads them onto the untouched base; `r` and
    /// `lora_alpha` are those that all sites share, or else this folder's.
    pub fn write(&self, adapters: &AdapterSet, folder: &Path) -> Result<(), AdapterError> {
        let adapters = adapters.plain();
        let alpha_of = |lora: &Lora| {
            let alpha = self.scaling.alpha_of(lora.scale, lora.rank());
            if close(alpha, self.scaling.alpha) { self.scaling.alpha } else { alpha }
        };
        let all = |same: &dyn Fn(&Lora, &Lora) -> bool| {
            let first = adapters.sites.values().next()?;
            adapters.sites.values().all(|lora| same(lora, first)).then_some(first)
        };
        let rank = all(&|lora, first| lora.rank() == first.rank()).map_or(self.rank, Lora::rank);
        let same_alpha = |lora: &Lora, first: &Lora| close(alpha_of(lora), alpha_of(first));
        let alpha = all(&same_alpha).map_or(self.scaling.alpha, alpha_of);
        let mut rank_pattern = Map::new();
        let mut alpha_pattern = Map::new();
        for (site, lora) in &adapters.sites {
            if lora.rank() != rank {
                rank_pattern.insert(site.to_string(), json!(lora.rank()));
            }
            if !close(alpha_of(lora), alpha) {
                alpha_pattern.insert(site.to_string(), json!(alpha_of(lora)));
            }
        }
        let target_modules = match adapters.sites.len() {
            0 => json!(NO_TARGETS),
            _ => adapters.sites.keys().map(|site| json!(site.to_string())).collect(),
        };
        let (init, eva_config) = match self.origin {
            Origin::Lora => (json!(true), Value::Null),
            Origin::Eva { rho, tau } => {
                let mut config = json!({ "rho": rho, "adjust_scaling_factors": true });
                if let Some(tau) = tau {
                    config["tau"] = json!(tau);
                }
                (json!("eva"), config)
            }
        };
        let mut config = json!({
            "peft_type": "LORA",
            "base_model_name_or_path": self.base,
            "r": rank,
            "lora_alpha": alpha,
            "lora_dropout": adapters.dropout,
            "rank_pattern": rank_pattern,
            "alpha_pattern": alpha_pattern,
            "target_modules": target_modules,
            "fan_in_fan_out": adapters.sites.keys().all(|site| site.fan_in_fan_out()),
            "bias": "none",
            "use_rslora": self.scaling.rank_stabilised,
            "use_dora": adapters.sites.values().any(|lora| lora.magnitude.is_some()),
            "init_lora_weights": init,
            "eva_config": eva_config,
            "inference_mode": true,
            "task_type": null,
        });
        let replaced: BTreeSet<&str> =
            adapters.replaced.keys().filter_map(|name| Some(name.rsplit_once('.')?.0)).collect();
        if !replaced.is_empty() {
            config["modules_to_save"] = json!(replaced);
        }
        let path = folder.join("adapter_config.json");
        let text = serde_json::to_string_pretty(&config).expect("a JSON value can be written");
        fs::write(&path, text + "\n")
            .map_err(|error| AdapterError::Write { path, reason: error.to_string() })?;

        let path = folder.join("adapter_model.safetensors");
        let tensors: Vec<(String, Tensor)> = adapters
            .tensors()
            .into_iter()
            .map(|(name, tensor)| (format!("{PREFIX}{name}"), tensor))
            .collect();
        tensor_file::write(&tensors, &path)
            .map_err(|error| AdapterError::Write { path, reason: error.to_string() })?;

        if let Some(fingerprint) = &self.fingerprint {
            let path = folder.join(OWN_FILE);
            fs::write(&path, format!("{:#}\n", json!({ FINGERPRINT: fingerprint })))
                .map_err(|error| AdapterError::Write { path, reason: error.to_string() })?;
        }
        Ok(())
    }

    /// Reads them; the adapters are trainable and on `device`. Whether they fit a policy is for
    /// [`AdapterFolder::check_base`] to say.
    pub fn read(folder: &Path, device: Device) -> Result<(Self, AdapterSet), AdapterError> {
        let config_path = folder.join("adapter_config.json");
        let read = |reason: String| AdapterError::Read { path: config_path.clone(), reason };
        let text = fs::read_to_string(&config_path).map_err(|error| read(error.to_string()))?;
        let config: Map<String, Value> =
            serde_json::from_str(&text).map_err(|error| read(crate::in_words(&error)))?;
        let rules = Rules::read(&config, &config_path)?;

        let file = TensorFile::find(folder, "adapter_model", "adapter_model")?;
        let path = file.path().to_owned();
        let mut parts: BTreeMap<Site, Parts> = BTreeMap::new();
        let mut adapters = AdapterSet { dropout: rules.dropout, ..AdapterSet::default() };
        for name in file.names() {
            let key = name.strip_prefix(PREFIX).unwrap_or(name);
            let tensor = file.read_weight(name, device)?;
            let Some((module, part)) = part_of(key) else {
                let plain = plain_name(key);
                if !rules.replaces(&plain) {
                    let reason =
                        "is no part of a LoRA or DoRA adapter of a linear map, and not in `modules_to_save`";
                    return Err(AdapterError::Tensor {
                        path,
                        name: name.to_owned(),
                        reason: reason.to_owned(),
                    });
                }
                adapters.replaced.insert(plain, tensor);
                continue;
            };
            let site: Site =
                module.parse().map_err(|source| AdapterError::Site { path: path.clone(), source })?;
            if !rules.targets(module) {
                let found = config["target_modules"].to_string();
                let wanted = format!("a rule that names `{module}`, which the weights adapt,");
                return Err(AdapterError::Config { path: config_path, key: "target_modules", found, wanted });
            }
            let parts = parts.entry(site).or_default();
            match part {
                Part::Down => parts.down = Some(tensor),
                Part::Up => parts.up = Some(tensor),
                _ => parts.magnitude = Some(tensor),
            }
        }
        for (site, parts) in parts {
            let lora = parts.assemble(site, &rules).map_err(|reason| AdapterError::Tensor {
                path: path.clone(),
                name: site.to_string(),
                reason,
            })?;
            adapters.sites.insert(site, lora);
        }
        if adapters.sites.is_empty() && adapters.replaced.is_empty() {
            return Err(AdapterError::Read { path, reason: "it holds no adapter".to_owned() });
        }
        let base = config.get("base_model_name_or_path").and_then(Value::as_str).unwrap_or_default();
        let facts = Self {
            base: base.to_owned(),
            fingerprint: read_fingerprint(folder)?,
            rank: rules.rank,
            scaling: rules.scaling,
            origin: rules.origin,
        };
        Ok((facts, adapters))
    }

    /// Refuses adapters, read from `folder`, that do not belong to the policy with these `weights`
    /// (`[…]` each): another fingerprint, a map that the policy lacks, another shape.
    pub fn check_base(
        &self,
        adapters: &AdapterSet,
        folder: &Path,
        weights: &BTreeMap<String, Tensor>,
    ) -> Result<(), AdapterError> {
        let path = folder.to_owned();
        for (&site, lora) in &adapters.sites {
            let shape = weights.get(&format!("{site}.weight")).and_then(|weight| weight.size2().ok());
            let Some((first, second)) = shape else {
                return Err(AdapterError::NoSuchSite { path, site });
            };
            let (input, output) = if site.fan_in_fan_out() { (first, second) } else { (second, first) };
            let (down, up) = (lora.down.size(), lora.up.size());
            if down[1] != input || up[0] != output {
                return Err(AdapterError::Shape { path, site, down, up, input, output });
            }
        }
        for (name, tensor) in &adapters.replaced {
            let found = tensor.size();
            let wanted = match weights.get(name) {
                Some(weight) if weight.size() == found => continue,
                Some(weight) => format!("shape {:?}", weight.size()),
                None => "no such tensor".to_owned(),
            };
            return Err(AdapterError::Replaced { path, name: name.clone(), found, wanted });
        }
        if let Some(found) = &self.fingerprint {
            let wanted = fingerprint(weights);
            if *found != wanted {
                let (base, found) = (self.base.clone(), found.clone());
                return Err(AdapterError::OtherBase { path, base, found, wanted });
            }
        }
        Ok(())
    }
}

/// Whether two alphas are the same number but for rounding.
fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12
}

/// What our own file says, if there is one.
fn read_fingerprint(folder: &Path) -> Result<Option<String>, AdapterError> {
    let path = folder.join(OWN_FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let read = |reason: String| AdapterError::Read { path: path.clone(), reason };
    let text = fs::read_to_string(&path).map_err(|error| read(error.to_string()))?;
    let own: Value = serde_json::from_str(&text).map_err(|error| read(error.to_string()))?;
    Ok(own[FINGERPRINT].as_str().map(str::to_owned))
}

/// The module and the part that a key names, in any of PEFT's spellings.
fn part_of(key: &str) -> Option<(&str, Part)> {
    for (word, part) in
        [(".lora_A", Part::Down), (".lora_B", Part::Up), (".lora_magnitude_vector", Part::Magnitude)]
    {
        let Some((module, end)) = key.rsplit_once(word) else { continue };
        let bare = matches!(part, Part::Magnitude) && matches!(end, "" | ".default");
        if bare || matches!(end, ".weight" | ".default.weight") {
            return Some((module, part));
        }
    }
    None
}

/// The base's own name of a tensor that PEFT wrapped.
fn plain_name(key: &str) -> String {
    let mut plain = key.to_owned();
    for wrapper in [".modules_to_save.default.", ".modules_to_save.", ".base_layer."] {
        plain = plain.replace(wrapper, ".");
    }
    plain
}

/// The tensors of one adapter.
#[derive(Default)]
struct Parts {
    down: Option<Tensor>,
    up: Option<Tensor>,
    magnitude: Option<Tensor>,
}

impl Parts {
    /// The trainable adapter, or what is wrong with it.
    fn assemble(self, site: Site, rules: &Rules) -> Result<Lora, String> {
        let (Some(down), Some(up)) = (self.down, self.up) else {
            return Err("has only one of A and B, and both are wanted".to_owned());
        };
        let module = site.to_string();
        let wanted = rules.rank_of(&module);
        let (Ok((rank, _)), Ok((outputs, columns))) = (down.size2(), up.size2()) else {
            return Err(format!("has A {:?} and B {:?}, and matrices are wanted", down.size(), up.size()));
        };
        if rank != wanted || columns != wanted {
            return Err(format!(
                "has A {:?} and B {:?}, and its config asks for rank {wanted}",
                down.size(),
                up.size()
            ));
        }
        match (&self.magnitude, rules.dora) {
            (Some(magnitude), true) if magnitude.size() == [outputs] => {}
            (None, false) => {}
            (found, dora) => {
                let found = found.as_ref().map_or("none".to_owned(), |found| format!("{:?}", found.size()));
                let wanted = if dora { format!("[{outputs}]") } else { "none".to_owned() };
                return Err(format!(
                    "has a `lora_magnitude_vector` of shape {found}, and with `use_dora` = {dora} {wanted} is wanted"
                ));
            }
        }
        let magnitude = self.magnitude.map(|magnitude| magnitude.set_requires_grad(true));
        Ok(Lora { magnitude, ..Lora::new(down, up, rules.scaling_of(&module).scale(rank)) })
    }
}
