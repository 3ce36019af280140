//! Options of an environment by name, as Gymnasium's `make` takes keyword arguments.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::EnvError;

/// Options by name.
pub type Kwargs = BTreeMap<String, Value>;

/// Refuses options that are not `known`.
pub(crate) fn check_names(id: &str, kwargs: &Kwargs, known: &[&str]) -> Result<(), EnvError> {
    match kwargs.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(option) => Err(EnvError::UnknownOption {
            id: id.to_owned(),
            option: option.clone(),
            known: if known.is_empty() {
                "it has none".to_owned()
            } else {
                format!("it has `{}`", known.join("`, `"))
            },
        }),
    }
}

/// A finite number, or `default` where it is not given.
pub(crate) fn number(id: &str, kwargs: &Kwargs, option: &'static str, default: f64) -> Result<f64, EnvError> {
    let Some(value) = kwargs.get(option) else { return Ok(default) };
    value.as_f64().filter(|number| number.is_finite()).ok_or_else(|| EnvError::Option {
        id: id.to_owned(),
        option,
        found: value.to_string(),
        wanted: "a finite number",
    })
}

/// True or false, or `default` where it is not given.
pub(crate) fn flag(id: &str, kwargs: &Kwargs, option: &'static str, default: bool) -> Result<bool, EnvError> {
    let Some(value) = kwargs.get(option) else { return Ok(default) };
    value.as_bool().ok_or_else(|| EnvError::Option {
        id: id.to_owned(),
        option,
        found: value.to_string(),
        wanted: "true or false",
    })
}
