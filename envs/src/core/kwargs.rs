//! Keyword arguments of an environment, as a config or a dataset gives them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::core::error::EnvError;

/// Names and values, as in Gymnasium's `make(id, **kwargs)`.
pub type Kwargs = BTreeMap<String, Value>;

/// Reads the kwargs of one environment, and knows at the end which were never asked for.
///
/// Every reader takes the kwarg's name and its default.
pub struct KwargReader<'a> {
    id: &'static str,
    kwargs: &'a Kwargs,
    known: Vec<String>,
}

impl<'a> KwargReader<'a> {
    pub(crate) fn new(id: &'static str, kwargs: &'a Kwargs) -> Self {
        Self { id, kwargs, known: Vec::new() }
    }

    /// The environment's id, for errors.
    pub fn id(&self) -> &'static str {
        self.id
    }

    /// Whether the user left every kwarg alone but `these`.
    pub fn only(&self, these: &[&str]) -> bool {
        self.kwargs.keys().all(|name| these.contains(&name.as_str()))
    }

    /// A switch.
    pub fn boolean(&mut self, name: &str, default: bool) -> Result<bool, EnvError> {
        self.read(name, default, "true or false", Value::as_bool)
    }

    /// Any number.
    pub fn number(&mut self, name: &str, default: f64) -> Result<f64, EnvError> {
        self.read(name, default, "a number", Value::as_f64)
    }

    /// A number that may be zero and not less.
    pub fn size(&mut self, name: &str, default: f64) -> Result<f64, EnvError> {
        let convert = |value: &Value| value.as_f64().filter(|size| *size >= 0.0);
        self.read(name, default, "a number of at least 0", convert)
    }

    /// How many of something.
    pub fn count(&mut self, name: &str, default: u16) -> Result<u16, EnvError> {
        let convert = |value: &Value| u16::try_from(value.as_u64()?).ok().filter(|count| *count > 0);
        self.read(name, default, "a whole number from 1 to 65535", convert)
    }

    /// The least and the greatest of something; JSON has no infinity, so an unbounded side is null.
    pub fn range(&mut self, name: &str, default: (f64, f64)) -> Result<(f64, f64), EnvError> {
        let convert = |value: &Value| {
            let [low, high] = value.as_array()?.as_slice() else { return None };
            let side = |side: &Value, unbounded| if side.is_null() { Some(unbounded) } else { side.as_f64() };
            let (low, high) = (side(low, f64::NEG_INFINITY)?, side(high, f64::INFINITY)?);
            (low <= high).then_some((low, high))
        };
        self.read(name, default, "two numbers, the lesser first, or null for a side without a bound", convert)
    }

    /// A name, or a path.
    pub fn text(&mut self, name: &str, default: &str) -> Result<String, EnvError> {
        self.read(name, default.to_owned(), "a text", |value| value.as_str().map(str::to_owned))
    }

    /// The refusal of a kwarg that was read, but cannot be as it is.
    pub fn refused(&self, name: &str, wanted: &'static str) -> EnvError {
        let found = self.kwargs.get(name).map_or("its default".to_owned(), Value::to_string);
        EnvError::Kwarg { id: self.id.to_owned(), name: name.to_owned(), found, wanted }
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

    /// What `convert` makes of the value, which must be as `wanted` says.
    pub fn read<T>(
        &mut self,
        name: &str,
        default: T,
        wanted: &'static str,
        convert: fn(&Value) -> Option<T>,
    ) -> Result<T, EnvError> {
        self.known.push(name.to_owned());
        match self.kwargs.get(name) {
            None => Ok(default),
            Some(value) => convert(value).ok_or_else(|| self.refused(name, wanted)),
        }
    }
}
