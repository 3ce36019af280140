//! What the parts of an observation are.

use serde::Serialize;

use super::leaves::Leaf;
use super::types::{Bound, Space};

/// The key of a Dict under which bytes are a text: MiniGrid's missions, which EnvPool gives as a Box of `uint8`.
const MISSION: &str = "mission";

/// A part of an observation: a [`Leaf`], and what it is to whoever reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Part<'a> {
    /// Its keys, its space and its columns of the flattened row.
    pub leaf: Leaf<'a>,
    /// What it holds.
    pub kind: PartKind,
}

/// What a part of an observation holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartKind {
    /// Numbers.
    Vector,
    /// Bytes of a picture.
    Image {
        /// Channels, height, width.
        shape: [usize; 3],
        /// Whether the environment has the channels behind height and width.
        channels_last: bool,
    },
    /// Whole numbers: [`Leaf::unflatten`] gives them from their starts on. In the flattened row those of Discrete and
    /// MultiDiscrete are one-hot, and those of MultiBinary are themselves.
    Discrete {
        /// How many values each has.
        counts: Vec<usize>,
        /// The first value of each.
        starts: Vec<i64>,
    },
    /// A text: [`Part::text`] reads it.
    Text,
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
    /// Every part, in the order of the flattened row; or the path and the space of one that cannot be flattened.
    pub fn parts(&self) -> Result<Vec<Part<'_>>, (Vec<String>, &Self)> {
        let leaves = self.leaves()?.into_iter();
        Ok(leaves.map(|leaf| Part { kind: leaf.kind(), leaf }).collect())
    }

    /// The image among its leaves, if there is one; the first of several.
    pub fn image(&self) -> Option<ImageLeaf> {
        self.leaves().ok()?.iter().enumerate().find_map(|(leaf, part)| {
            let (shape, channels_last) = part.space.picture()?;
            Some(ImageLeaf { leaf, shape, channels_last })
        })
    }

    /// Whether it holds pictures: bytes from 0 to 255 on three axes.
    pub fn is_image(&self) -> bool {
        self.picture().is_some()
    }

    /// Channels, height and width, and whether the channels come last; the shorter of the outer axes is taken for
    /// them.
    fn picture(&self) -> Option<([usize; 3], bool)> {
        let Self::Box { shape, dtype, low: Bound::All(0.0), high: Bound::All(255.0) } = self else {
            return None;
        };
        let [first, middle, last] = shape[..] else { return None };
        let channels_last = last < first;
        let shape = if channels_last { [last, first, middle] } else { [first, middle, last] };
        (dtype == "uint8").then_some((shape, channels_last))
    }
}

impl Leaf<'_> {
    fn kind(&self) -> PartKind {
        if let Some((shape, channels_last)) = self.space.picture() {
            return PartKind::Image { shape, channels_last };
        }
        match self.space {
            Space::Text { .. } => PartKind::Text,
            Space::Box { shape, dtype, .. } => {
                let bytes = dtype == "uint8" && shape.len() == 1;
                let mission = self.path.last().is_some_and(|key| key == MISSION);
                if bytes && mission { PartKind::Text } else { PartKind::Vector }
            }
            Space::Discrete { n, start } => PartKind::Discrete { counts: vec![*n], starts: vec![*start] },
            Space::MultiDiscrete { counts, starts } => {
                PartKind::Discrete { counts: counts.clone(), starts: starts.clone() }
            }
            Space::MultiBinary { .. } => {
                let count = self.columns.len();
                PartKind::Discrete { counts: vec![2; count], starts: vec![0; count] }
            }
            Space::Tuple(_) | Space::Dict(_) | Space::Other(_) => unreachable!("it is no leaf"),
        }
    }
}

impl Part<'_> {
    /// The text in its columns of a flattened row; none of a part that is none. It ends at the first number that is
    /// no character, or at a byte of 0.
    pub fn text(&self, row: &[f32]) -> Option<String> {
        if self.kind != PartKind::Text {
            return None;
        }
        let row = &row[self.leaf.columns.clone()];
        Some(match self.leaf.space {
            Space::Text { characters, .. } => {
                row.iter().map_while(|number| characters.get(*number as usize)).collect()
            }
            _ => {
                let bytes = row.iter().map(|number| *number as u8).take_while(|byte| *byte != 0);
                String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
            }
        })
    }
}
