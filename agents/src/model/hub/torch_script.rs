//! Policies that are TorchScript modules: any code of the user's that predicts actions from a window.
//!
//! The module's `forward(states, actions, returns_to_go, timesteps, attention_mask)` gives the actions
//! `[B, T, A]`, or a tuple of states, actions and returns as transformers orders them, or a dict with
//! `action_preds`.

use std::path::{Path, PathBuf};

use serde_json::Map;
use tch::{CModule, Device, IValue, Kind, TchError, Tensor};

use super::error::PolicyError;
use super::folder::parse_config;
use super::statistics;
use crate::model::core::bad_field::BadField;
use crate::model::core::config::{ActionKind, PolicyConfig};
use crate::model::core::inputs::Inputs;

/// A TorchScript module, and what is known of its use.
#[derive(Debug)]
pub struct TorchScript {
    module: CModule,
    config: PolicyConfig,
    device: Device,
    path: PathBuf,
}

/// What a module says of every step.
#[derive(Debug)]
pub struct ScriptPredictions {
    /// `[B, T, A]`.
    pub actions: Tensor,
    /// `[B, T, S]`, where the module gives it.
    pub states: Option<Tensor>,
    /// `[B, T, 1]`, where the module gives it.
    pub returns: Option<Tensor>,
}

/// A module that does not do what a policy does.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// Its own code failed.
    #[error("the module {path:?} failed: {reason}")]
    Failed {
        /// The module.
        path: PathBuf,
        /// libtorch's first line.
        reason: String,
    },

    /// It returned something else.
    #[error("the module {path:?} returned {found}, expected actions of shape {wanted:?}")]
    Returned {
        /// The module.
        path: PathBuf,
        /// What it returned.
        found: String,
        /// `[B, T, A]`.
        wanted: Vec<i64>,
    },
}

impl TorchScript {
    /// Reads the module at `path`; sizes and statistics come from `config.json` and `statistics.json`
    /// beside it, and from the file that the user names.
    pub fn read(path: &Path, given: Option<&Path>, device: Device) -> Result<Self, PolicyError> {
        let config_path = path.with_file_name("config.json");
        let mut table =
            if config_path.is_file() { statistics::read_table(&config_path)? } else { Map::new() };
        table.remove("model_type");
        table.insert("action_tanh".to_owned(), false.into()); // the module's own affair
        let origin = statistics::complete(&mut table, path, given)?;
        let refuse = |key: &'static str, found: &str, wanted: &str| PolicyError::Field {
            path: config_path.clone(),
            source: BadField { key: key.into(), found: found.to_owned(), wanted: wanted.to_owned() },
        };
        for key in ["state_dim", "act_dim"] {
            if !table.contains_key(key) {
                let wanted = "a size, there or in a file of statistics";
                return Err(refuse(key, "absent", wanted));
            }
        }
        let config = parse_config(table, &config_path, &origin)?;
        if config.action_kind == ActionKind::Binned {
            let wanted = "\"continuous\" or \"discrete\" for a TorchScript module";
            return Err(refuse("action_kind", "\"binned\"", wanted));
        }
        let failed = |error: TchError| PolicyError::Read {
            path: path.to_owned(),
            // libtorch's first sentence; its advice follows.
            reason: format!(
                "it is no TorchScript module ({})",
                crate::first_line(&error).split(". ").next().unwrap_or_default()
            ),
        };
        let mut module = CModule::load_on_device(path, device).map_err(failed)?;
        module.f_set_eval().map_err(failed)?;
        Ok(Self { module, config, device, path: path.to_owned() })
    }

    /// What is known of its use.
    pub fn config(&self) -> &PolicyConfig {
        &self.config
    }

    /// The same, to say otherwise how the module is used.
    pub fn config_mut(&mut self) -> &mut PolicyConfig {
        &mut self.config
    }

    /// Where the module runs.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Numbers that the module holds.
    pub fn parameter_count(&self) -> usize {
        self.module.named_parameters().unwrap_or_default().iter().map(|(_, tensor)| tensor.numel()).sum()
    }

    /// The module's own forward pass.
    pub fn forward(&self, inputs: &Inputs) -> Result<ScriptPredictions, ScriptError> {
        let arguments = [
            inputs.states.shallow_clone(),
            inputs.actions.shallow_clone(),
            inputs.returns_to_go.shallow_clone(),
            inputs.timesteps.shallow_clone(),
            inputs.mask.to_kind(Kind::Int64),
        ]
        .map(IValue::Tensor);
        let returned = self.module.forward_is(&arguments).map_err(|error| ScriptError::Failed {
            path: self.path.clone(),
            reason: reason(&error.to_string()),
        })?;
        let mut found = ScriptPredictions { actions: Tensor::new(), states: None, returns: None };
        match returned {
            IValue::Tensor(actions) => found.actions = actions,
            IValue::Tuple(items) => {
                let mut tensors = items.into_iter().map(|item| match item {
                    IValue::Tensor(tensor) => Some(tensor),
                    _ => None,
                });
                let (first, second) = (tensors.next().flatten(), tensors.next().flatten());
                match second {
                    Some(actions) => (found.states, found.actions) = (first, actions),
                    None => found.actions = first.unwrap_or_default(),
                }
                found.returns = tensors.next().flatten();
            }
            IValue::GenericDict(items) => {
                for item in items {
                    let (IValue::String(key), IValue::Tensor(tensor)) = item else { continue };
                    match key.as_str() {
                        "action_preds" => found.actions = tensor,
                        "state_preds" => found.states = Some(tensor),
                        "return_preds" => found.returns = Some(tensor),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        let mut wanted = inputs.timesteps.size();
        wanted.push(self.config.act_dim);
        if !found.actions.defined() || found.actions.size() != wanted {
            let found = if found.actions.defined() {
                format!("actions of shape {:?}", found.actions.size())
            } else {
                "no actions".to_owned()
            };
            return Err(ScriptError::Returned { path: self.path.clone(), found, wanted });
        }
        found.actions = found.actions.to_kind(Kind::Float);
        Ok(found)
    }

    /// The mode of the action distribution at each window's last step: `[B, A]` in [−1, 1], or `[B, 1]` indices.
    pub fn act(&self, inputs: &Inputs) -> Result<Tensor, ScriptError> {
        let last = self.forward(inputs)?.actions.select(1, -1); // [B, A]
        Ok(match self.config.action_kind {
            ActionKind::Discrete => last.argmax(-1, true).to_kind(Kind::Float),
            _ => last.clamp(-1.0, 1.0),
        })
    }
}

/// What `forward` is given, for messages.
const ARGUMENTS: &str = "forward is given states, actions, returns_to_go, timesteps and attention_mask";

/// TorchScript's own words in a libtorch error: the reason comes last, after a traceback of the module's code, and
/// before libtorch's own frames. A `forward` of other arguments is told which it is given.
fn reason(text: &str) -> String {
    let is_frame = |line: &str| line.starts_with("Exception raised from") || line.starts_with("frame #");
    let lines: Vec<&str> = text.lines().map(str::trim).take_while(|line| !is_frame(line)).collect();
    let last = lines.iter().rev().find(|line| line.contains("Error:"));
    let first = lines.iter().find(|line| !line.is_empty());
    let said = last.or(first).copied().unwrap_or("it says nothing").trim_end_matches(". Declaration:");
    let declared =
        lines.iter().find(|line| line.starts_with("forward(__torch__") || line.starts_with("Declaration:"));
    let declared = declared.map(|line| format!("; it is {}", line.trim_start_matches("Declaration: ")));
    if text.contains("argument") {
        format!("{said}{}; {ARGUMENTS}", declared.unwrap_or_default())
    } else {
        said.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_torch_script_s_own() {
        let arity = "forward() expected at most 4 argument(s) but received 6 argument(s). Declaration: forward(__torch__.Other self, Tensor observations, Tensor actions, Tensor returns) -> Tensor\nException raised from checkArg at function_schema.cpp:20 (most recent call first):\nframe #0: c10::Error::Error(c10::SourceLocation) + 0x9d (0x7f in libc10.so)\n";
        let said = reason(arity);
        assert!(said.starts_with("forward() expected at most 4 argument(s) but received 6"), "{said}");
        assert!(
            said.contains("Tensor observations") && said.ends_with("timesteps and attention_mask"),
            "{said}"
        );
        let own = "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript (most recent call last):\n  File \"m.py\", line 3, in forward\n    return states @ states\nRuntimeError: mat1 and mat2 shapes cannot be multiplied\n\nframe #0: c10::Error::Error(c10::SourceLocation)\n";
        assert_eq!(reason(own), "RuntimeError: mat1 and mat2 shapes cannot be multiplied");
    }
}
