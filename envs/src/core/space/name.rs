//! The names of spaces.

use std::fmt;

use super::types::Space;

/// Characters of a space's name, at most.
pub(super) const MAX_NAME: usize = 300;

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
            Self::Text { min_length, max_length, characters } => {
                format!("Text({min_length}, {max_length}, {} characters)", characters.len())
            }
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
