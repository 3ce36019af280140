//! Spaces as Minari writes them in JSON; a Python worker writes a bound that is the same everywhere once.

use serde_json::Value;

use super::types::{Bound, Space, product};

/// Most numbers of a flattened space.
const MAX_WIDTH: usize = 1 << 24;

/// Most spaces inside each other.
const MAX_DEPTH: usize = 16;

impl Space {
    /// The space that Minari's JSON describes; infinite bounds are null there. None where it describes none, or one
    /// that is too large.
    pub fn from_json(value: &Value) -> Option<Self> {
        let space = Self::read(value, 0)?;
        space.width().is_none_or(|width| width <= MAX_WIDTH).then_some(space)
    }

    fn read(value: &Value, depth: usize) -> Option<Self> {
        if depth > MAX_DEPTH {
            return None;
        }
        Some(match value["type"].as_str()? {
            "Box" => {
                let shape = sizes(&value["shape"])?;
                let dtype = value["dtype"].as_str().unwrap_or("float32").to_owned();
                let count = product(&shape)?;
                let low = Bound::read(&value["low"], f32::NEG_INFINITY, count)?;
                let high = Bound::read(&value["high"], f32::INFINITY, count)?;
                Self::Box { shape, dtype, low, high }
            }
            "Discrete" => Self::Discrete {
                n: size(&value["n"])?,
                start: if value["start"].is_null() { 0 } else { value["start"].as_i64()? },
            },
            "MultiDiscrete" => {
                let mut counts = Vec::new();
                flat(&value["nvec"], &mut |count| {
                    counts.push(size(count)?);
                    Some(())
                })?;
                let mut starts = Vec::new();
                match &value["start"] {
                    Value::Null => starts.resize(counts.len(), 0),
                    start => flat(start, &mut |start| {
                        starts.push(start.as_i64()?);
                        Some(())
                    })?,
                }
                (counts.len() == starts.len()).then_some(Self::MultiDiscrete { counts, starts })?
            }
            "MultiBinary" => {
                let n = &value["n"];
                Self::MultiBinary { shape: if n.is_array() { sizes(n)? } else { vec![size(n)?] } }
            }
            "Text" => {
                let mut characters: Vec<char> = Vec::new();
                for character in value["charset"].as_str()?.chars() {
                    if !characters.contains(&character) {
                        characters.push(character);
                    }
                }
                let (min_length, max_length) = (size(&value["min_length"])?, size(&value["max_length"])?);
                Self::Text { min_length, max_length, characters }
            }
            "Tuple" => {
                let parts = value["subspaces"].as_array()?.iter();
                Self::Tuple(parts.map(|part| Self::read(part, depth + 1)).collect::<Option<_>>()?)
            }
            "Dict" => {
                let parts = value["subspaces"].as_object()?.iter();
                let named =
                    |(name, part): (&String, &Value)| Some((name.clone(), Self::read(part, depth + 1)?));
                Self::Dict(parts.map(named).collect::<Option<_>>()?)
            }
            other => Self::Other(value["repr"].as_str().unwrap_or(other).to_owned()),
        })
    }
}

impl Bound {
    fn read(value: &Value, infinite: f32, count: usize) -> Option<Self> {
        let number = |value: &Value| match value {
            Value::Null => Some(infinite),
            value => value.as_f64().map(|x| x as f32),
        };
        if !value.is_array() {
            return number(value).map(Self::All);
        }
        let mut each = Vec::new();
        flat(value, &mut |value| {
            each.push(number(value)?);
            Some(())
        })?;
        if each.len() != count {
            return None;
        }
        match each.first() {
            Some(first) if each.iter().all(|bound| bound == first) => Some(Self::All(*first)),
            _ => Some(Self::Each(each)),
        }
    }
}

fn size(value: &Value) -> Option<usize> {
    value.as_u64().map(|size| size as usize).filter(|size| *size <= MAX_WIDTH)
}

fn sizes(value: &Value) -> Option<Vec<usize>> {
    value.as_array()?.iter().map(size).collect()
}

/// Visits every value of lists in lists, in row order.
fn flat(value: &Value, visit: &mut dyn FnMut(&Value) -> Option<()>) -> Option<()> {
    match value {
        Value::Array(values) => values.iter().try_for_each(|value| flat(value, visit)),
        value => visit(value),
    }
}
