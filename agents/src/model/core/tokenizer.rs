//! The tokenizer of a policy that reads words as GPT-2 does, and the files beside its weights that hold it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::bad_field::BadField;

/// The whole tokenizer in one file.
const WHOLE: &str = "tokenizer.json";

/// GPT-2's own two files, which say the same.
const PARTS: [&str; 2] = ["vocab.json", "merges.txt"];

/// What other programs read beside these; they are kept with a policy.
const BESIDE: [&str; 2] = ["tokenizer_config.json", "special_tokens_map.json"];

/// A tokenizer's files as they lie beside a policy's weights, to be written back with it.
#[derive(Clone, Default, PartialEq)]
pub struct TokenizerFiles(Arc<BTreeMap<&'static str, Vec<u8>>>);

impl TokenizerFiles {
    /// The names of those of `there` that belong to a tokenizer; the two parts only where the whole one is absent.
    pub fn among(there: &[&str]) -> Vec<&'static str> {
        let of_words = if there.contains(&WHOLE) { &[WHOLE][..] } else { &PARTS };
        let mut found: Vec<&str> = of_words.iter().copied().filter(|name| there.contains(name)).collect();
        if !found.is_empty() {
            found.extend(BESIDE.into_iter().filter(|name| there.contains(name)));
        }
        found
    }

    /// Those that lie in a folder; none where it has none.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        for name in [WHOLE].into_iter().chain(PARTS).chain(BESIDE) {
            let path = folder.join(name);
            if path.is_file() {
                files.insert(name, fs::read(path)?);
            }
        }
        Ok(Self(Arc::new(files)))
    }

    /// Writes them into a folder that exists.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        self.0.iter().try_for_each(|(name, bytes)| fs::write(folder.join(name), bytes))
    }

    /// The tokenizer that they hold.
    pub fn tokenizer(&self) -> Result<Tokenizer, BadField> {
        let bad = |key: &'static str, found: String, wanted: &str| BadField {
            key: key.into(),
            found,
            wanted: wanted.to_owned(),
        };
        let unreadable = |key, reason: String| {
            bad(key, format!("unreadable ({reason})"), "a tokenizer as Hugging Face's library writes it")
        };
        if let Some(whole) = self.0.get(WHOLE) {
            return Tokenizer::of(whole).map_err(|reason| unreadable(WHOLE, reason));
        }
        let [Some(vocabulary), Some(merges)] = PARTS.map(|name| self.0.get(name)) else {
            let wanted =
                "it, or `vocab.json` and `merges.txt`, beside config.json, where words of missions are read";
            return Err(bad(WHOLE, "absent".to_owned(), wanted));
        };
        let vocabulary: Value =
            serde_json::from_slice(vocabulary).map_err(|error| unreadable(PARTS[0], error.to_string()))?;
        let merges = std::str::from_utf8(merges).map_err(|error| unreadable(PARTS[1], error.to_string()))?;
        let merges: Vec<&str> =
            merges.lines().filter(|line| !line.starts_with("#version") && !line.is_empty()).collect();
        let whole = json!({
            "version": "1.0",
            "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true },
            "model": { "type": "BPE", "vocab": vocabulary, "merges": merges },
        });
        Tokenizer::of(whole.to_string().as_bytes()).map_err(|reason| unreadable(PARTS[1], reason))
    }
}

impl fmt::Debug for TokenizerFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Cuts texts into tokens, as the files say.
#[derive(Clone)]
pub struct Tokenizer(Arc<tokenizers::Tokenizer>);

impl Tokenizer {
    fn of(json: &[u8]) -> Result<Self, String> {
        let mut read = tokenizers::Tokenizer::from_bytes(json).map_err(|error| error.to_string())?;
        read.with_padding(None);
        read.with_truncation(None).map_err(|error| error.to_string())?;
        Ok(Self(Arc::new(read)))
    }

    /// The numbers of a text's tokens; or why there are none.
    pub fn tokens(&self, text: &str) -> Result<Vec<i64>, String> {
        let encoded = self.0.encode_fast(text, true).map_err(|error| error.to_string())?;
        Ok(encoded.get_ids().iter().map(|id| i64::from(*id)).collect())
    }

    /// The greatest number of a token.
    pub fn greatest(&self) -> i64 {
        self.0.get_vocab(true).values().max().map_or(0, |id| i64::from(*id))
    }
}

impl PartialEq for Tokenizer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokenizer({} tokens)", self.0.get_vocab_size(true))
    }
}
