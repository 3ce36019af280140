//! Adapter folders in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use super::config::PeftConfig;
use super::origin::Origin;
use super::parts::{Adapted, Key, PREFIX, Parts, as_written, own_name, plain_name};
use crate::adapter::error::AdapterError;
use crate::adapter::lora::{Lora, Part, Scaling};
use crate::adapter::set::AdapterSet;
use crate::adapter::site::{Kernel, ModuleName, Site};
use crate::tensor::file::{self as tensor_file, TensorFile};

/// The `target_modules` of a folder that replaces tensors and adapts no map; PEFT refuses an empty list.
const NO_TARGETS: &str = "dummy-target-modules";

/// The file of our own beside PEFT's two, which PEFT does not look at.
const OWN_FILE: &str = "eva_rl.json";

/// Its key that says which policy the adapters belong to.
const FINGERPRINT: &str = "base_fingerprint";

/// What an adapter folder says beside the adapters.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterFolder {
    /// The policy that the adapters belong to, as a path or a name.
    pub base: String,
    /// The revision of a base that is named as on the Hub, as PEFT's key of that name.
    pub revision: Option<String>,
    /// The same policy's [`fingerprint`], where the folder says.
    pub fingerprint: Option<String>,
    /// Rank of a site that `rank_pattern` does not name.
    pub rank: i64,
    /// The scaling of a site that `alpha_pattern` does not name.
    pub scaling: Scaling,
    /// How the adapters were initialised.
    pub origin: Origin,
    /// Whether the adapted modules keep their weights as `[in, out]`, as GPT-2's Conv1D does.
    pub fan_in_fan_out: bool,
    /// The kernels of convolutions, in whose shape files keep their A.
    pub kernels: BTreeMap<ModuleName, Kernel>,
}

/// A checksum of a policy's weights by name, in f32: `[…]` each.
pub fn fingerprint<'a>(weights: impl IntoIterator<Item = (&'a String, &'a Tensor)>) -> String {
    let mut hasher = crc32fast::Hasher::new();
    for (name, tensor) in weights {
        hasher.update(name.as_bytes());
        hasher.update(&tensor_file::bytes(&tensor.to_kind(Kind::Float)));
    }
    format!("{:08x}", hasher.finalize())
}

impl AdapterFolder {
    /// Writes PEFT's two files, and our own, into `folder`, which exists.
    ///
    /// They hold [`AdapterSet::to_peft_lora`], so that PEFT loads them onto the untouched base; `r` and
    /// `lora_alpha` are those that all sites share, or else this folder's.
    pub fn write(&self, adapters: &AdapterSet, folder: &Path) -> Result<(), AdapterError> {
        let adapters = adapters.to_peft_lora();
        let alpha_of = |lora: &Lora| {
            let alpha = self.scaling.alpha_of(lora.scale, lora.rank());
            if close(alpha, self.scaling.alpha) { self.scaling.alpha } else { alpha }
        };
        let sites = adapters.sites.iter().map(|(site, lora)| (site.to_string(), lora));
        let tables = adapters.tables.iter().map(|(table, lora)| (table.clone(), lora));
        let modules: Vec<(String, &Lora)> = sites.chain(tables).collect();
        let all = |same: &dyn Fn(&Lora, &Lora) -> bool| {
            let (_, first) = modules.first()?;
            modules.iter().all(|(_, lora)| same(lora, first)).then_some(*first)
        };
        let rank = all(&|lora, first| lora.rank() == first.rank()).map_or(self.rank, Lora::rank);
        let same_alpha = |lora: &Lora, first: &Lora| close(alpha_of(lora), alpha_of(first));
        let alpha = all(&same_alpha).map_or(self.scaling.alpha, alpha_of);
        let mut rank_pattern = Map::new();
        let mut alpha_pattern = Map::new();
        for (module, lora) in &modules {
            if lora.rank() != rank {
                rank_pattern.insert(module.clone(), json!(lora.rank()));
            }
            if !close(alpha_of(lora), alpha) {
                alpha_pattern.insert(module.clone(), json!(alpha_of(lora)));
            }
        }
        let target_modules = match modules.as_slice() {
            [] => json!(NO_TARGETS),
            modules => modules.iter().map(|(module, _)| json!(module)).collect(),
        };
        let (init, eva_config) = match self.origin {
            Origin::Lora => (json!(true), Value::Null),
            Origin::Eva { rho, tau } => {
                let mut config = json!({ "rho": rho, "adjust_scaling_factors": true });
                if let Some(tau) = tau {
                    config["tau"] = json!(tau);
                }
                // PEFT has no EVA of convolutions, and refuses to make room for one.
                let convolves = adapters.sites.keys().any(|module| self.kernels.contains_key(module));
                (if convolves { json!(true) } else { json!("eva") }, config)
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
            "fan_in_fan_out": self.fan_in_fan_out,
            "bias": "none",
            "use_rslora": self.scaling.rank_stabilised,
            "use_dora": modules.iter().any(|(_, lora)| lora.magnitude.is_some()),
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
        if let Some(revision) = &self.revision {
            config["revision"] = json!(revision);
        }
        let path = folder.join("adapter_config.json");
        let text = serde_json::to_string_pretty(&config).expect("a JSON value can be written");
        fs::write(&path, text + "\n")
            .map_err(|error| AdapterError::Write { path, reason: error.to_string() })?;

        let path = folder.join("adapter_model.safetensors");
        let tensors: Vec<(String, Tensor)> = adapters
            .tensors()
            .into_iter()
            .map(|(name, tensor)| (format!("{PREFIX}{name}"), as_written(&name, tensor, &self.kernels)))
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
    /// [`AdapterFolder::check_base`] to say. An adapter that has a name lies one folder below, where PEFT puts it.
    pub fn read(folder: &Path, device: Device) -> Result<(Self, AdapterSet), AdapterError> {
        let folder = &Self::locate(folder)?;
        let config_path = folder.join("adapter_config.json");
        let read = |reason: String| AdapterError::Read { path: config_path.clone(), reason };
        let text = crate::read_text(&config_path).map_err(|error| read(error.to_string()))?;
        let config: Map<String, Value> =
            serde_json::from_str(&text).map_err(|error| read(crate::in_words(&error)))?;
        let rules = PeftConfig::read(&config, &config_path)?;

        let file = TensorFile::find(folder, "adapter_model", "adapter_model")?;
        let path = file.path().to_owned();
        let mut parts: BTreeMap<Adapted, Parts> = BTreeMap::new();
        let mut adapters = AdapterSet { dropout: rules.dropout, ..AdapterSet::default() };
        for name in file.names() {
            let refuse = |reason: String| {
                Err(AdapterError::Tensor { path: path.clone(), name: name.to_owned(), reason })
            };
            let key = own_name(name);
            let tensor = file.read_weight(name, device)?;
            let Some(Key { module, part, of_table }) = Key::of(key) else {
                let plain = plain_name(key);
                if !rules.replaces(&plain) {
                    return refuse(
                        "is no part of a LoRA or DoRA adapter, and not in `modules_to_save`".to_owned(),
                    );
                }
                if adapters.replaced.insert(plain, tensor).is_some() {
                    return refuse("is there under two adapters' names, expected one adapter".to_owned());
                }
                continue;
            };
            // A magnitude's name is the same for both; its A comes before it.
            let is_table = of_table || parts.contains_key(&Adapted::Table(module.to_owned()));
            let adapted =
                if is_table { Adapted::Table(module.to_owned()) } else { Adapted::Module(module.into()) };
            if !rules.targets(module) {
                let found = config["target_modules"].to_string();
                let wanted = format!("a rule that names `{module}`, which the weights adapt,");
                return Err(AdapterError::Config { path: config_path, key: "target_modules", found, wanted });
            }
            let parts = parts.entry(adapted).or_default();
            let place = match part {
                Part::Down => &mut parts.down,
                Part::Up => &mut parts.up,
                _ => &mut parts.magnitude,
            };
            if place.replace(tensor).is_some() {
                return refuse("is there under two adapters' names, expected one adapter".to_owned());
            }
        }
        let mut kernels = BTreeMap::new();
        for (adapted, parts) in parts {
            let module = match &adapted {
                Adapted::Module(module) => module.to_string(),
                Adapted::Table(module) => module.clone(),
            };
            let (lora, kernel) = parts.assemble(&module, &rules).map_err(|reason| AdapterError::Tensor {
                path: path.clone(),
                name: module.clone(),
                reason,
            })?;
            kernels.extend(kernel.map(|kernel| (ModuleName::from(module.as_str()), kernel)));
            match adapted {
                Adapted::Module(module) => drop(adapters.sites.insert(module, lora)),
                Adapted::Table(module) => drop(adapters.tables.insert(module, lora)),
            }
        }
        if adapters.sites.is_empty() && adapters.tables.is_empty() && adapters.replaced.is_empty() {
            return Err(AdapterError::Read { path, reason: "it holds no adapter".to_owned() });
        }
        let base = config.get("base_model_name_or_path").and_then(Value::as_str).unwrap_or_default();
        let facts = Self {
            base: base.to_owned(),
            revision: config.get("revision").and_then(Value::as_str).map(str::to_owned),
            fingerprint: read_fingerprint(folder)?,
            rank: rules.rank,
            scaling: rules.scaling,
            origin: rules.origin,
            fan_in_fan_out: rules.fan_in_fan_out,
            kernels,
        };
        Ok((facts, adapters))
    }

    /// The folder itself where it holds an adapter, or the one below it that does.
    pub fn locate(folder: &Path) -> Result<PathBuf, AdapterError> {
        let holds_adapter = |folder: &Path| folder.join("adapter_config.json").is_file();
        if holds_adapter(folder) {
            return Ok(folder.to_owned());
        }
        let entries = fs::read_dir(folder)
            .map_err(|error| AdapterError::Read { path: folder.to_owned(), reason: error.to_string() })?;
        let mut below: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| holds_adapter(path)).collect();
        below.sort();
        match below.as_slice() {
            [one] => Ok(one.clone()),
            [] => {
                let reason = "it has no adapter_config.json, and neither has a folder in it".to_owned();
                Err(AdapterError::Read { path: folder.to_owned(), reason })
            }
            several => {
                let names = several.iter().filter_map(|path| path.file_name());
                let names: Vec<String> = names.map(|name| format!("`{}`", name.to_string_lossy())).collect();
                let reason = format!("it holds the adapters {}; name one of these folders", names.join(", "));
                Err(AdapterError::Read { path: folder.to_owned(), reason })
            }
        }
    }

    /// Refuses adapters, read from `folder`, that do not belong to the policy with these `sites`, embedding `tables`
    /// and `weights` (`[…]` each), of which those named `new` are in no file: another fingerprint, a module that the
    /// policy lacks, another shape.
    pub fn check_base(
        &self,
        adapters: &AdapterSet,
        folder: &Path,
        (sites, tables): (&[Site], &[&str]),
        (weights, new): (&BTreeMap<String, Tensor>, &[String]),
    ) -> Result<(), AdapterError> {
        let path = folder.to_owned();
        for (module, lora) in &adapters.sites {
            let Some(site) = sites.iter().find(|site| site.module == *module) else {
                let reason = match tables.contains(&module.as_str()) {
                    true => "has the names of a linear module's adapter, and it is an embedding table's",
                    false => "is the adapter of a module that this policy does not have",
                };
                return Err(AdapterError::Tensor {
                    path,
                    name: module.to_string(),
                    reason: reason.to_owned(),
                });
            };
            let kernel = self.kernels.get(module).copied();
            if kernel != site.kernel {
                let of = |kernel: Option<Kernel>| match kernel {
                    Some(kernel) => format!("a convolution with kernel {kernel:?}"),
                    None => "a linear module".to_owned(),
                };
                let reason = format!("is the adapter of {}, expected {}", of(kernel), of(site.kernel));
                return Err(AdapterError::Tensor { path, name: module.to_string(), reason });
            }
            let (down, up) = (lora.down.size(), lora.up.size());
            if down[1] != site.input || up[0] != site.output {
                let (module, input, output) = (module.clone(), site.input, site.output);
                return Err(AdapterError::Shape { path, module, down, up, input, output });
            }
        }
        for (name, lora) in &adapters.tables {
            if !tables.contains(&name.as_str()) {
                let reason = match sites.iter().any(|site| site.module.as_str() == name) {
                    true => "has the names of an embedding table's adapter, and it is a linear module's",
                    false => "is the adapter of an embedding table that this policy does not have",
                };
                return Err(AdapterError::Tensor { path, name: name.clone(), reason: reason.to_owned() });
            }
            let shape = weights.get(&format!("{name}.weight")).map(Tensor::size).unwrap_or_default();
            let (down, up) = (lora.down.size(), lora.up.size());
            if shape != [down[1], up[0]] {
                let reason = format!(
                    "adapts a table of shape [{}, {}], and this policy's has {shape:?}",
                    down[1], up[0]
                );
                return Err(AdapterError::Tensor { path, name: name.clone(), reason });
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
            let wanted = fingerprint(weights.iter().filter(|(name, _)| !new.contains(name)));
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
    let text = crate::read_text(&path).map_err(|error| read(error.to_string()))?;
    let own: Value = serde_json::from_str(&text).map_err(|error| read(error.to_string()))?;
    Ok(own[FINGERPRINT].as_str().map(str::to_owned))
}
