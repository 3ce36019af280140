//! The spaces themselves, and how many numbers a value of each has when it is flattened.

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
    /// Words of some characters.
    Text {
        /// Characters of the shortest.
        min_length: usize,
        /// Characters of the longest.
        max_length: usize,
        /// The characters, in the order of their numbers.
        characters: Vec<char>,
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

impl Space {
    /// Numbers of a flattened value; none where that is not the same for all, or overflows.
    pub fn width(&self) -> Option<usize> {
        match self {
            Self::Box { shape, .. } | Self::MultiBinary { shape } => product(shape),
            Self::Discrete { n, .. } => Some(*n),
            Self::MultiDiscrete { counts, .. } => sum(counts.iter().map(|count| Some(*count))),
            Self::Text { max_length, .. } => Some(*max_length),
            Self::Tuple(parts) => sum(parts.iter().map(Self::width)),
            Self::Dict(parts) => sum(parts.iter().map(|(_, part)| part.width())),
            Self::Other(_) => None,
        }
    }
}

impl Space {
    /// Whether it is a Box of floats on one axis, as a flattened row is.
    pub fn is_row(&self) -> bool {
        matches!(self, Self::Box { shape, dtype, .. } if shape.len() == 1 && dtype.starts_with("float"))
    }
}

impl Bound {
    /// One number for all, by `choose`.
    pub(super) fn one(&self, choose: fn(f32, f32) -> f32) -> f32 {
        match self {
            Self::All(bound) => *bound,
            Self::Each(each) => each.iter().copied().reduce(choose).unwrap_or_default(),
        }
    }
}

/// None where it overflows.
pub(super) fn product(sizes: &[usize]) -> Option<usize> {
    sizes.iter().try_fold(1, |product: usize, size| product.checked_mul(*size))
}

fn sum(widths: impl Iterator<Item = Option<usize>>) -> Option<usize> {
    widths.into_iter().try_fold(0, |sum: usize, width| sum.checked_add(width?))
}
