//! The words that a policy reads, and where its observations hold their text.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Where a row of an observation holds a text, and the words of it that a policy knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vocabulary {
    /// The columns of the row, one per character: its place among `characters`, or any other number where the text has
    /// ended.
    pub columns: Range<usize>,
    /// The characters, in the order of their numbers.
    pub characters: String,
    /// The words, in the order of their numbers from 1 on.
    pub words: Vec<String>,
    /// Words of the longest text.
    pub longest: usize,
}

/// A text that a policy cannot read whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownText {
    /// A word.
    #[error("{text:?} holds the word {word:?}, expected {}", .known.join(", "))]
    Word {
        /// The whole text.
        text: String,
        /// The first word that is not known.
        word: String,
        /// Those that are.
        known: Vec<String>,
    },
    /// More words than any text of the training data had.
    #[error("{text:?} has {words} words, expected at most {longest}")]
    TooLong {
        /// The whole text.
        text: String,
        /// How many it has.
        words: usize,
        /// How many it may have.
        longest: usize,
    },
    /// More tokens than there is room for.
    #[error("{text:?} has {tokens} tokens, expected at most {room}")]
    TooManyTokens {
        /// The whole text.
        text: String,
        /// How many it has.
        tokens: usize,
        /// How many it may have.
        room: usize,
    },
    /// The tokenizer fails.
    #[error("{text:?} has no tokens ({reason}), expected a text that the policy's tokenizer can cut")]
    NoTokens {
        /// The whole text.
        text: String,
        /// What it says.
        reason: String,
    },
}

/// The words of a text: letters and digits in lower case, whatever stands between them.
pub fn words_of(text: &str) -> impl Iterator<Item = String> {
    text.split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

impl Vocabulary {
    /// All words of these texts, in the order of the alphabet.
    pub fn of<'t>(
        columns: Range<usize>,
        characters: String,
        texts: impl IntoIterator<Item = &'t str>,
    ) -> Self {
        let (mut all, mut longest) = (BTreeSet::new(), 1);
        for text in texts {
            let words: Vec<String> = words_of(text).collect();
            longest = longest.max(words.len());
            all.extend(words);
        }
        Self { columns, characters, words: all.into_iter().collect(), longest }
    }

    /// The text that a row holds.
    pub fn text(&self, row: &[f32]) -> String {
        let characters: Vec<char> = self.characters.chars().collect();
        row[self.columns.clone()]
            .iter()
            .map_while(|number| characters.get(*number as usize).filter(|_| *number >= 0.0))
            .take_while(|character| **character != '\0') // where bytes have ended
            .collect()
    }

    /// The numbers of a text's words, `longest` of them, 0 where it has ended.
    pub fn numbers(&self, text: &str) -> Result<Vec<i64>, UnknownText> {
        let mut numbers = Vec::with_capacity(self.longest);
        for word in words_of(text) {
            let Ok(place) = self.words.binary_search(&word) else {
                return Err(UnknownText::Word { text: text.to_owned(), word, known: self.words.clone() });
            };
            numbers.push(place as i64 + 1);
        }
        if numbers.len() > self.longest {
            let (words, longest) = (numbers.len(), self.longest);
            return Err(UnknownText::TooLong { text: text.to_owned(), words, longest });
        }
        numbers.resize(self.longest, 0);
        Ok(numbers)
    }

    /// The same of a row, where words that are not known, and those after the longest text, are left out.
    pub fn known_numbers(&self, row: &[f32]) -> Vec<i64> {
        let text = self.text(row);
        let known = words_of(&text).filter_map(|word| self.words.binary_search(&word).ok());
        let mut numbers: Vec<i64> = known.map(|place| place as i64 + 1).take(self.longest).collect();
        numbers.resize(self.longest, 0);
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> Vocabulary {
        Vocabulary::of(1..21, " abcdefghijklmnopqrstuvwxyz".to_owned(), ["go to a red ball", "open the door"])
    }

    /// A row of a number, the text, and another number.
    fn row(text: &str) -> Vec<f32> {
        let place =
            |character: char| if character == ' ' { 0.0 } else { (character as u8 - b'a' + 1).into() };
        let mut row = vec![9.0];
        row.extend(text.chars().map(place));
        row.resize(21, 27.0); // Gymnasium's own padding: how many characters there are
        row.push(9.0);
        row
    }

    #[test]
    fn words_are_numbered_from_1_in_the_order_of_the_alphabet() {
        let vocabulary = vocabulary();
        assert_eq!(vocabulary.words, ["a", "ball", "door", "go", "open", "red", "the", "to"]);
        assert_eq!(vocabulary.text(&row("go to the door")), "go to the door");
        assert_eq!(vocabulary.numbers("Go to the door!"), Ok(vec![4, 8, 7, 3, 0]));
        assert_eq!(vocabulary.known_numbers(&row("go to the door")), [4, 8, 7, 3, 0]);
    }

    #[test]
    fn an_unknown_word_is_told_with_those_that_are_known() {
        let error = vocabulary().numbers("go to a blue ball").unwrap_err().to_string();
        let expected =
            "\"go to a blue ball\" holds the word \"blue\", expected a, ball, door, go, open, red, the, to";
        assert_eq!(error, expected);
        assert_eq!(vocabulary().known_numbers(&row("go to a blue ball")), [4, 8, 1, 2, 0]);
        let error = vocabulary().numbers("go to the red ball the door").unwrap_err().to_string();
        assert_eq!(error, "\"go to the red ball the door\" has 7 words, expected at most 5");
    }
}
