//! The reference pages of the book, written from the code that they describe.

mod commands;
mod config;
mod run_folder;
mod tensorboard;

/// Every page: its file's name in `docs/reference`, and its text in Markdown.
pub fn pages() -> [(&'static str, String); 4] {
    [
        ("config.md", config::page()),
        ("commands.md", commands::page()),
        ("run-folder.md", run_folder::page()),
        ("tensorboard.md", tensorboard::page()),
    ]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_book_has_what_the_code_says() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference");
        for (name, page) in pages() {
            let written = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
            assert!(
                written == page,
                "docs/reference/{name} is not what the code says: write it again with `make reference`"
            );
        }
    }
}
