//! Text that is read with a bound, and other libraries' errors in plain words.

/// Longest text that is read as a config or as JSON.
const MAX_TEXT: u64 = 64 << 20;

/// A file's text, which has an end: what is longer than 64 MiB, or never ends, is refused.
pub fn read_text(path: &std::path::Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_TEXT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_TEXT {
        let what = format!("it is longer than {} MiB", MAX_TEXT >> 20);
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, what));
    }
    Ok(text)
}

/// The first line of a libtorch error; the rest is a C++ backtrace.
pub fn first_line(error: &tch::TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// What serde says of JSON, in words that know no type of ours.
pub fn in_words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let Some((found, expected)) = text.rsplit_once(", expected ") else { return text };
    let (expected, place) = expected.split_at(expected.find(" at line ").unwrap_or(expected.len()));
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        record if record.starts_with("struct ") => "an object",
        other => other,
    };
    let mut found = found.replace("invalid type: ", "").replace("invalid value: ", "");
    for (ours, plain) in [
        ("integer `", "`"),
        ("floating point `", "`"),
        ("boolean `", "`"),
        ("sequence", "a list"),
        ("map", "an object"),
    ] {
        if found.starts_with(ours) {
            found.replace_range(..ours.len(), plain);
        }
    }
    format!("expected {expected}, found {found}{place}")
}

#[cfg(test)]
mod tests {
    use super::in_words;

    #[test]
    fn json_of_the_wrong_type_is_told_in_words() {
        let told = |text| in_words(&serde_json::from_str::<(usize, f64, bool)>(text).unwrap_err());
        assert_eq!(
            told("[-1, 0, true]"),
            "expected a whole number of at least 0, found `-1` at line 1 column 3"
        );
        assert_eq!(told("[1, \"x\", true]"), "expected a number, found string \"x\" at line 1 column 7");
        assert_eq!(told("[1, 0, 2]"), "expected true or false, found `2` at line 1 column 8");
        let told = |text| in_words(&serde_json::from_str::<serde_json::Map<_, _>>(text).unwrap_err());
        assert_eq!(told("[]"), "expected an object, found a list at line 1 column 0");
    }
}
