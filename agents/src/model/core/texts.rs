//! The ways in which a policy reads the text of a state: by words that it knows, or by a tokenizer.

use super::grid::Grid;
use super::vocabulary::{UnknownText, Vocabulary};

/// How a policy reads the text of a state.
#[derive(Clone, Copy, Debug)]
pub enum TextReading<'a> {
    /// By words, of which it knows so many.
    Words(&'a Vocabulary),
    /// A mission, by the tokens of it.
    Tokens(&'a Grid),
}

impl<'a> TextReading<'a> {
    /// Of a policy that has either, or none.
    pub fn of(words: Option<&'a Vocabulary>, grid: Option<&'a Grid>) -> Option<Self> {
        words.map(Self::Words).or(grid.map(Self::Tokens))
    }

    /// Where a state's row holds the text.
    pub fn place(&self) -> &'a Vocabulary {
        match self {
            Self::Words(words) => words,
            Self::Tokens(grid) => &grid.place.mission,
        }
    }

    /// Refuses a text that the policy cannot read whole.
    pub fn check(&self, text: &str) -> Result<(), UnknownText> {
        match self {
            Self::Words(words) => words.numbers(text).map(drop),
            Self::Tokens(grid) => grid.check(text),
        }
    }
}
