//! What `gymnasium.spaces.flatten` makes of a value, and back.

use std::ops::Range;

use super::types::{Bound, Space};

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

impl Space {
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
                Self::Text { characters, .. } => {
                    low.resize(columns.end, 0.0);
                    high.resize(columns.end, characters.len() as f32);
                }
                _ => {
                    low.resize(columns.end, 0.0);
                    high.resize(columns.end, 1.0);
                }
            }
        }
        (low, high)
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

    /// Flattens a text into its columns of `row`; or says what is outside.
    pub fn flatten_text(&self, text: &str, row: &mut [f32]) -> Result<(), String> {
        let Space::Text { max_length, characters, .. } = self.space else {
            return Err(format!("holds a text, expected a value of {}", self.space));
        };
        let row = &mut row[self.columns.clone()];
        row.fill(characters.len() as f32);
        for (place, character) in text.chars().enumerate() {
            let Some(column) = row.get_mut(place) else {
                return Err(format!("holds a longer text, expected at most {max_length} characters"));
            };
            let Some(number) = characters.iter().position(|known| *known == character) else {
                return Err(format!("holds {character:?}, expected characters of {}", self.space));
            };
            *column = number as f32;
        }
        Ok(())
    }

    /// The value as it is recorded that is flattened in its columns of `row`; the inverse of [`Leaf::flatten`]. A
    /// part of whole numbers that is all 0, as a row is before anything is written, gives the first of each.
    pub fn unflatten(&self, row: &[f32]) -> Vec<f64> {
        let row = &row[self.columns.clone()];
        let marked = |from: usize, n: usize, start: i64| {
            let index = row[from..from + n].iter().position(|number| *number != 0.0);
            (start + index.unwrap_or_default() as i64) as f64
        };
        match self.space {
            Space::Discrete { n, start } => vec![marked(0, *n, *start)],
            Space::MultiDiscrete { counts, starts } => {
                let mut from = 0;
                let each = counts.iter().zip(starts).map(|(n, start)| {
                    from += n;
                    marked(from - n, *n, *start)
                });
                each.collect()
            }
            _ => row.iter().map(|number| f64::from(*number)).collect(),
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
    fn extend_into(&self, bounds: &mut Vec<f32>, count: usize) {
        match self {
            Self::All(bound) => bounds.resize(bounds.len() + count, *bound),
            Self::Each(each) => bounds.extend(each),
        }
    }
}
