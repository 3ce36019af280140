//! States of a direction, an image of symbols and a mission in words, as BabyAI's are, all read as ids of one vocabulary.
//!
//! The ids are the direction, the symbols in the environment's own order, and the mission's tokens, padded behind.

use std::cell::RefCell;
use std::ops::Range;

use super::bad_field::BadField;
use super::tokenizer::{Tokenizer, TokenizerFiles};
use super::vocabulary::{UnknownText, Vocabulary};

/// Where an observation shows a direction, symbols and a mission.
#[derive(Clone, Debug, PartialEq)]
pub struct GridPlace {
    /// The columns of its row that hold the direction, one-hot.
    pub direction: Range<usize>,
    /// Where its symbols are.
    pub symbols: Symbols,
    /// Where its row holds the mission; words are the tokenizer's affair.
    pub mission: Vocabulary,
    /// Numbers and characters of its row.
    pub row_width: usize,
}

/// Where an observation shows its image of symbols.
#[derive(Clone, Debug, PartialEq)]
pub enum Symbols {
    /// In columns of its row, in the environment's order.
    InRow(Range<usize>),
    /// Apart, channels first.
    Apart {
        /// Channels, height, width.
        shape: [i64; 3],
        /// Whether the environment has the channels behind height and width.
        channels_last: bool,
    },
}

impl Symbols {
    /// Channels, height and width of the image that holds them, if it is apart.
    pub fn image(&self) -> Option<[i64; 3]> {
        match self {
            Self::InRow(_) => None,
            Self::Apart { shape, .. } => Some(*shape),
        }
    }

    /// How many there are.
    fn count(&self) -> usize {
        match self {
            Self::InRow(columns) => columns.len(),
            Self::Apart { shape, .. } => shape.iter().product::<i64>() as usize,
        }
    }
}

/// How a policy reads such states.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Where they are shown.
    pub place: GridPlace,
    /// S: ids of a state.
    width: usize,
    /// The id that stands behind a mission.
    padding: i64,
    tokenizer: Tokenizer,
}

impl Grid {
    /// States shown at `place` as `width` ids of a vocabulary of `known`, by a policy's tokenizer.
    pub fn new(
        place: &GridPlace,
        (width_key, width): (&'static str, i64),
        padding: i64,
        known: i64,
        files: &TokenizerFiles,
    ) -> Result<Self, BadField> {
        let bad = |key: &'static str, found: i64, wanted: String| {
            Err(BadField { key: key.into(), found: found.to_string(), wanted })
        };
        let tokenizer = files.tokenizer()?;
        let before = 1 + place.symbols.count();
        if width <= before as i64 {
            let wanted =
                format!("more than {before}, the direction and the symbols, with room for a mission");
            return bad(width_key, width, wanted);
        }
        let greatest = tokenizer.greatest().max(padding).max(i64::from(u8::MAX));
        if padding < 0 || known <= greatest {
            let wanted = format!("more than {greatest}, the greatest id of symbols, tokens and padding");
            return bad("vocab_size", known, wanted);
        }
        Ok(Self { place: place.clone(), width: width as usize, padding, tokenizer })
    }

    /// Refuses a mission that has no room.
    pub fn check(&self, mission: &str) -> Result<(), UnknownText> {
        let text = mission.to_owned();
        match self.tokenizer.tokens(mission) {
            Err(reason) => Err(UnknownText::NoTokens { text, reason }),
            Ok(tokens) if tokens.len() > self.room() => {
                Err(UnknownText::TooManyTokens { text, tokens: tokens.len(), room: self.room() })
            }
            Ok(_) => Ok(()),
        }
    }

    /// Tokens of the longest mission.
    fn room(&self) -> usize {
        self.width - 1 - self.place.symbols.count()
    }
}

/// Makes ids of states, and remembers the last mission, which most steps repeat.
#[derive(Debug)]
pub struct GridReader {
    grid: Grid,
    last: RefCell<LastMission>,
}

/// A mission's columns of the row, and its padded tokens.
#[derive(Debug, Default)]
struct LastMission {
    columns: Vec<f32>,
    tokens: Vec<f32>,
}

impl GridReader {
    /// Of a policy's grid.
    pub fn of(grid: &Grid) -> Self {
        Self { grid: grid.clone(), last: RefCell::default() }
    }

    /// S.
    pub fn width(&self) -> usize {
        self.grid.width
    }

    /// Where the states are shown.
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// The ids `[N, S]` of states' rows `[N, row]` and images `[N, C·H·W]`, zeros where `real` `[N]` is not set. What of
    /// a mission has no room is left out; [`Grid::check`] refuses such.
    pub fn ids(&self, rows: &[f32], pixels: &[u8], real: &[bool]) -> Vec<f32> {
        let GridPlace { direction, symbols, mission, row_width } = &self.grid.place;
        let mut ids = Vec::with_capacity(real.len() * self.grid.width);
        for (index, (row, real)) in rows.chunks(*row_width).zip(real).enumerate() {
            if !real {
                ids.resize(ids.len() + self.grid.width, 0.0);
                continue;
            }
            let facing = row[direction.clone()].iter().position(|number| *number != 0.0);
            ids.push(facing.unwrap_or_default() as f32);
            match symbols {
                // Bytes, whatever a dataset holds.
                Symbols::InRow(columns) => {
                    ids.extend(row[columns.clone()].iter().map(|symbol| f32::from(*symbol as u8)));
                }
                Symbols::Apart { shape: [channels, ..], channels_last } => {
                    let image = &pixels[index * symbols.count()..][..symbols.count()];
                    let (channels, places) = (*channels as usize, image.len() / *channels as usize);
                    let shown = |at: usize| match channels_last {
                        true => image[at % channels * places + at / channels],
                        false => image[at],
                    };
                    ids.extend((0..image.len()).map(|at| f32::from(shown(at))));
                }
            }
            let mut last = self.last.borrow_mut();
            if last.tokens.is_empty() || last.columns != row[mission.columns.clone()] {
                *last = LastMission {
                    columns: row[mission.columns.clone()].to_vec(),
                    tokens: self.padded(&mission.text(row)),
                };
            }
            ids.extend_from_slice(&last.tokens);
        }
        ids
    }

    /// The tokens of a mission, as many as there is room for.
    fn padded(&self, mission: &str) -> Vec<f32> {
        let tokens = self.grid.tokenizer.tokens(mission).unwrap_or_default();
        let padding = std::iter::repeat(self.grid.padding);
        tokens.into_iter().chain(padding).take(self.grid.room()).map(|id| id as f32).collect()
    }
}
