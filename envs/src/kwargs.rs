//! Keyword arguments of an environment, as a config or a dataset gives them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::EnvError;

/// Names and values, as in Gymnasium's `make(id, **kwargs)`.
pub type Kwargs = BTreeMap<String, Value>;

/// Reads the kwargs of one environment, and knows at the end which were never asked for.
pub(crate) struct KwargReader<'a> {
    id: &'static str,
    kwargs: &'a Kwargs,
    known: Vec<String>,
}

impl<'a> KwargReader<'a> {
    pub(crate) fn new(id: &'static str, kwargs: &'a Kwargs) -> Self {
        Self { id, kwargs, known: Vec::new() }
    }

    pub(crate) fn boolean(&mut self, name: &str, default: bool) -> Result<bool, EnvError> {
        self.read(name, default, "true or false", Value::as_bool)
    }

    pub(crate) fn number(&mut self, name: &str, default: f64) -> Result<f64, EnvError> {
        self.read(name, default, "a number", Value::as_f64)
    }

    /// Refuses a kwarg that nothing has read.
    pub(crate) fn finish(self) -> Result<(), EnvError> {
        match self.kwargs.keys().find(|name| !self.known.contains(name)) {
            None => Ok(()),
            Some(name) => {
                Err(EnvError::UnknownKwarg { id: self.id.to_owned(), name: name.clone(), known: self.known })
            }
        }
    }

    fn read<T>(
        &mut self,
        name: &str,
        default: T,
        wanted: &'static str,
        convert: fn(&Value) -> Option<T>,
    ) -> Result<T, EnvError> {
        self.known.push(name.to_owned());
        let Some(value) = self.kwargs.get(name) else {
            return Ok(default);
        };
        convert(value).ok_or_else(|| EnvError::Kwarg {
            id: self.id.to_owned(),
            name: name.to_owned(),
            found: value.to_string(),
            wanted,
        })
    }
}
