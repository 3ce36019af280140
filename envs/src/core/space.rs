//! Gymnasium's spaces as data: what they hold, how `gymnasium.spaces.flatten` lays it out, and their short names.
//!
//! Datasets and Python workers write a space as Minari does, in JSON; a worker writes a bound that is the same
//! everywhere once.

use std::fmt;
use std::ops::Range;

use serde::Serialize;
use serde_json::Value;

use crate::core::spec::ActionSpace;

/// Most numbers of a flattened space.
const MAX_WIDTH: usize = 1 << 24;

/// Most spaces inside each other.
const MAX_DEPTH: usize = 16;

/// Characters of a space's name, at most.
const MAX_NAME: usize = 300;

/// A space of Gymnasium's.
#[derive(Clone, Debug, PartialEq)]
pub enum Space {
    /// Numbers between bounds.
    Box {
        /// Sizes of the axes.
        shape: Vec<usize>,
        /// numpy's name of the numbers' type.
        dtype: String,
        /// The least value of each number; may be infinite.
        low: Bound,
        /// The greatest value of each number; may be infinite.
        high: Bound,
    },
    /// `start..start + n`.
    Discrete {
        /// How many values there are.
        n: usize,
        /// The first one.
        start: i64,
    },
    /// Several of them.
    MultiDiscrete {
        /// How many values each has.
        counts: Vec<usize>,
        /// The first value of each.
        starts: Vec<i64>,
    },
    /// Numbers that are 0 or 1.
    MultiBinary {
        /// Sizes of the axes.
        shape: Vec<usize>,
    },
    /// Several spaces.
    Tuple(Vec<Space>),
    /// Several spaces by name, in the order in which they are flattened.
    Dict(Vec<(String, Space)>),
    /// A space whose values are not of one width, by its name.
    Other(String),
}

/// The bound of every number of a Box.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// The same everywhere.
    All(f32),
    /// Of each number, in row order.
    Each(Vec<f32>),
}

/// A part of a flattened space that is recorded as one array.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf<'a> {
    /// The keys that lead to it; `_index_0` is the first of a Tuple, as Minari has it.
    pub path: Vec<String>,
    /// What it is: no Tuple and no Dict.
    pub space: &'a Space,
    /// Its columns of the flattened row.
    pub columns: Range<usize>,
}

/// The part of a space that is an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ImageLeaf {
    /// Its number among [`Space::leaves`].
    pub leaf: usize,
    /// Channels, height, width.
    pub shape: [usize; 3],
    /// Whether the environment has the channels behind height and width.
    pub channels_last: bool,
}

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

    /// Numbers of a flattened value; none where that is not the same for all, or overflows.
    pub fn width(&self) -> Option<usize> {
        match self {
            Self::Box { shape, .. } | Self::MultiBinary { shape } => product(shape),
            Self::Discrete { n, .. } => Some(*n),
            Self::MultiDiscrete { counts, .. } => sum(counts.iter().map(|count| Some(*count))),
            Self::Tuple(parts) => sum(parts.iter().map(Self::width)),
            Self::Dict(parts) => sum(parts.iter().map(|(_, part)| part.width())),
            Self::Other(_) => None,
        }
    }

    /// Every part that is recorded as an array, in the order of the flattened row; or the path and the space of
    /// one that cannot be flattened.
    pub fn leaves(&self) -> Result<Vec<Leaf<'_>>, (Vec<String>, &Self)> {
        let mut leaves = Vec::new();
        self.add_leaves(&mut Vec::new(), &mut leaves)?;
        Ok(leaves)
    }

    fn add_leaves<'a>(
        &'a self,
        path: &mut Vec<String>,
        leaves: &mut Vec<Leaf<'a>>,
    ) -> Result<(), (Vec<String>, &'a Self)> {
        let named: Vec<(String, &Self)> = match self {
            Self::Tuple(parts) => {
                parts.iter().enumerate().map(|(index, part)| (format!("_index_{index}"), part)).collect()
            }
            Self::Dict(parts) => parts.iter().map(|(name, part)| (name.clone(), part)).collect(),
            _ => {
                let Some(width) = self.width() else { return Err((path.clone(), self)) };
                let start = leaves.last().map_or(0, |leaf| leaf.columns.end);
                leaves.push(Leaf { path: path.clone(), space: self, columns: start..start + width });
                return Ok(());
            }
        };
        for (name, part) in named {
            path.push(name);
            part.add_leaves(path, leaves)?;
            path.pop();
        }
        Ok(())
    }

    /// The least and the greatest value of each number of the flattened row; nothing where it has no width.
    pub fn bounds(&self) -> (Vec<f32>, Vec<f32>) {
        let (mut low, mut high) = (Vec::new(), Vec::new());
        for Leaf { space, columns, .. } in self.leaves().unwrap_or_default() {
            match space {
                Self::Box { low: least, high: most, .. } => {
                    least.extend_into(&mut low, columns.len());
                    most.extend_into(&mut high, columns.len());
                }
                _ => {
                    low.resize(columns.end, 0.0);
                    high.resize(columns.end, 1.0);
                }
            }
        }
        (low, high)
    }

    /// The same as actions, which are numbers in a row; none where no policy and no random play of ours chooses
    /// such: a Box without bounds or of whole numbers, several Discretes that do not begin at 0, and what is none of
    /// these.
    pub fn actions(&self) -> Option<ActionSpace> {
        match self {
            Self::Discrete { n, start } if *n > 0 => Some(ActionSpace::Discrete { n: *n, start: *start }),
            Self::MultiDiscrete { counts, starts }
                if !counts.is_empty() && !counts.contains(&0) && starts.iter().all(|start| *start == 0) =>
            {
                Some(ActionSpace::MultiDiscrete { counts: counts.clone() })
            }
            Self::MultiBinary { shape } => {
                let count = product(shape).filter(|count| *count > 0)?;
                Some(ActionSpace::MultiDiscrete { counts: vec![2; count] })
            }
            Self::Box { dtype, .. } if dtype.starts_with("float") => {
                let (low, high) = self.bounds();
                let fits = |(low, high): (&f32, &f32)| low.is_finite() && high.is_finite() && low < high;
                let fit = !low.is_empty() && low.iter().zip(&high).all(fits);
                fit.then_some(ActionSpace::Box { low, high })
            }
            _ => None,
        }
    }

    /// The image among its leaves, if there is one; the first of several. The shorter of the outer axes is taken for
    /// the channels.
    pub fn image(&self) -> Option<ImageLeaf> {
        let leaves = self.leaves().ok()?;
        let leaf = leaves.iter().position(|leaf| leaf.space.is_image())?;
        let Self::Box { shape, .. } = leaves[leaf].space else { return None };
        let channels_last = shape[2] < shape[0];
        let shape = match channels_last {
            true => [shape[2], shape[0], shape[1]],
            false => [shape[0], shape[1], shape[2]],
        };
        Some(ImageLeaf { leaf, shape, channels_last })
    }

    /// Whether it holds pictures: bytes from 0 to 255 on three axes.
    pub fn is_image(&self) -> bool {
        matches!(self, Self::Box { shape, dtype, low: Bound::All(0.0), high: Bound::All(255.0) }
            if dtype == "uint8" && shape.len() == 3)
    }
}

impl Leaf<'_> {
    /// Numbers of one value as it is recorded.
    pub fn recorded(&self) -> usize {
        match self.space {
            Space::Discrete { .. } => 1,
            Space::MultiDiscrete { counts, .. } => counts.len(),
            _ => self.columns.len(),
        }
    }

    /// Flattens one `recorded` value into its columns of `row`, which are 0 so far; or says what is outside.
    pub fn flatten(&self, recorded: &[f64], row: &mut [f32]) -> Result<(), String> {
        let row = &mut row[self.columns.clone()];
        let mut mark = |from: usize, value: f64, n: usize, start: i64| {
            let index = value - start as f64;
            if index.fract() != 0.0 || index < 0.0 || index >= n as f64 {
                let last = start + n as i64 - 1;
                return Err(format!("holds {value}, expected a whole number in {start}..={last}"));
            }
            row[from + index as usize] = 1.0;
            Ok(())
        };
        match self.space {
            Space::Discrete { n, start } => mark(0, recorded[0], *n, *start),
            Space::MultiDiscrete { counts, starts } => {
                let mut from = 0;
                for ((value, n), start) in recorded.iter().zip(counts).zip(starts) {
                    mark(from, *value, *n, *start)?;
                    from += n;
                }
                Ok(())
            }
            _ => {
                row.iter_mut().zip(recorded).for_each(|(to, from)| *to = *from as f32);
                Ok(())
            }
        }
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

    fn extend_into(&self, bounds: &mut Vec<f32>, count: usize) {
        match self {
            Self::All(bound) => bounds.resize(bounds.len() + count, *bound),
            Self::Each(each) => bounds.extend(each),
        }
    }

    /// One number for all, by `choose`.
    fn one(&self, choose: fn(f32, f32) -> f32) -> f32 {
        match self {
            Self::All(bound) => *bound,
            Self::Each(each) => each.iter().copied().reduce(choose).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Space {
    /// Nearly as Gymnasium writes it, and short, however many numbers it holds: bounds that differ are written as
    /// the least and the greatest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |items: Vec<String>| items.join(", ");
        let tuple = |shape: &[usize]| match shape {
            [one] => format!("({one},)"),
            sizes => format!("({})", list(sizes.iter().map(ToString::to_string).collect())),
        };
        let name = match self {
            Self::Box { shape, dtype, low, high } => {
                format!("Box({}, {}, {}, {dtype})", low.one(f32::min), high.one(f32::max), tuple(shape))
            }
            Self::Discrete { n, start: 0 } => format!("Discrete({n})"),
            Self::Discrete { n, start } => format!("Discrete({n}, start={start})"),
            Self::MultiDiscrete { counts, .. } => format!("MultiDiscrete({counts:?})"),
            Self::MultiBinary { shape } if shape.len() == 1 => format!("MultiBinary({})", shape[0]),
            Self::MultiBinary { shape } => format!("MultiBinary({})", tuple(shape)),
            Self::Tuple(parts) => format!("Tuple({})", list(parts.iter().map(ToString::to_string).collect())),
            Self::Dict(parts) => {
                format!(
                    "Dict({})",
                    list(parts.iter().map(|(name, part)| format!("{name}: {part}")).collect())
                )
            }
            Self::Other(name) => name.clone(),
        };
        match name.char_indices().nth(MAX_NAME) {
            Some((end, _)) => write!(f, "{}…", &name[..end]),
            None => f.write_str(&name),
        }
    }
}

fn size(value: &Value) -> Option<usize> {
    value.as_u64().map(|size| size as usize).filter(|size| *size <= MAX_WIDTH)
}

fn sizes(value: &Value) -> Option<Vec<usize>> {
    value.as_array()?.iter().map(size).collect()
}

fn product(sizes: &[usize]) -> Option<usize> {
    sizes.iter().try_fold(1, |product: usize, size| product.checked_mul(*size))
}

fn sum(widths: impl Iterator<Item = Option<usize>>) -> Option<usize> {
    widths.into_iter().try_fold(0, |sum: usize, width| sum.checked_add(width?))
}

/// Visits every value of lists in lists, in row order.
fn flat(value: &Value, visit: &mut dyn FnMut(&Value) -> Option<()>) -> Option<()> {
    match value {
        Value::Array(values) => values.iter().try_for_each(|value| flat(value, visit)),
        value => visit(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Space {
        Space::from_json(&value).unwrap()
    }

    /// What `tools/golden/golden_spaces.py` prints: a space as Minari writes it, values as they are recorded, and what
    /// `gymnasium.spaces.flatten` makes of them.
    #[test]
    fn values_are_flattened_as_gymnasium_flattens_them() {
        let text = include_str!("../../tests/golden/spaces.json");
        let cases: Vec<Value> = serde_json::from_str(text).unwrap();
        assert!(cases.len() >= 10);
        for case in cases {
            let space = read(case["space"].clone());
            let leaves = space.leaves().unwrap();
            let mut row = vec![0.0; space.width().unwrap()];
            for leaf in &leaves {
                let recorded: Vec<f64> =
                    serde_json::from_value(case["recorded"][leaf.path.join("/")].clone()).unwrap();
                assert_eq!(recorded.len(), leaf.recorded(), "{case}");
                leaf.flatten(&recorded, &mut row).unwrap();
            }
            let wanted: Vec<f32> = serde_json::from_value(case["flattened"].clone()).unwrap();
            assert_eq!(row, wanted, "{space}");
            assert_eq!(space.to_string(), case["name"].as_str().unwrap());
        }
    }

    #[test]
    fn a_value_outside_of_its_space_is_refused() {
        let space = read(json!({ "type": "Discrete", "n": 3, "start": 1 }));
        let leaf = &space.leaves().unwrap()[0];
        for value in [0.0, 4.0, 1.5] {
            let said = leaf.flatten(&[value], &mut [0.0; 3]).unwrap_err();
            assert!(said.contains("expected a whole number in 1..=3"), "{said}");
        }
    }

    #[test]
    fn a_name_is_short_and_an_image_is_one() {
        let picture = json!({ "type": "Box", "dtype": "uint8", "shape": [84, 84, 3], "low": 0, "high": 255 });
        let space = read(picture);
        assert_eq!(space.to_string(), "Box(0, 255, (84, 84, 3), uint8)");
        assert!(space.is_image() && space.actions().is_none());
        let many: Vec<Value> = (0..500).map(|_| json!({ "type": "Discrete", "n": 2 })).collect();
        assert!(
            read(json!({ "type": "Tuple", "subspaces": many })).to_string().chars().count() <= MAX_NAME + 1
        );
    }

    #[test]
    fn what_is_no_space_is_none() {
        let mut deep = json!({ "type": "Discrete", "n": 2 });
        for _ in 0..100 {
            deep = json!({ "type": "Tuple", "subspaces": [deep] });
        }
        for value in [
            json!({}),
            json!({ "type": "Box", "shape": [1 << 20, 1 << 20], "low": 0, "high": 1 }),
            json!({ "type": "Box", "shape": [2], "low": [0], "high": 1 }),
            json!({ "type": "Discrete", "n": -1 }),
            deep,
        ] {
            assert_eq!(Space::from_json(&value), None);
        }
        let text = read(json!({ "type": "Dict", "subspaces": { "a": { "type": "Text", "max_length": 9 } } }));
        let (path, other) = text.leaves().unwrap_err();
        assert_eq!((path, other.to_string()), (vec!["a".to_owned()], "Text".to_owned()));
    }

    #[test]
    fn actions_are_discrete_or_bounded_floats() {
        let float =
            |low: Value| json!({ "type": "Box", "dtype": "float32", "shape": [2, 1], "low": low, "high": 1 });
        let square = read(float(json!([[-1], [-2]]))).actions();
        assert_eq!(square, Some(ActionSpace::Box { low: vec![-1.0, -2.0], high: vec![1.0, 1.0] }));
        assert_eq!(read(float(Value::Null)).actions(), None);
        let discrete = read(json!({ "type": "Discrete", "n": 3, "start": -1 })).actions();
        assert_eq!(discrete, Some(ActionSpace::Discrete { n: 3, start: -1 }));
        let binary = read(json!({ "type": "MultiBinary", "n": [2, 2] })).actions();
        assert_eq!(binary, Some(ActionSpace::MultiDiscrete { counts: vec![2; 4] }));
    }
}
