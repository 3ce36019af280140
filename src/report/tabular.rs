//! A table of a report, for Markdown and for pages.

use serde::Serialize;

/// Rows under a head, with a sentence before and one after.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Table {
    /// What it shows.
    pub intro: String,
    /// Names of its columns.
    pub head: Vec<String>,
    /// As many cells each as there are columns.
    pub rows: Vec<Vec<String>>,
    /// What it comes to.
    pub outro: String,
}

impl Table {
    /// A table without rows.
    pub fn new(intro: impl Into<String>, head: &[&str]) -> Self {
        let head = head.iter().map(|name| (*name).to_owned()).collect();
        Self { intro: intro.into(), head, ..Self::default() }
    }

    /// The same in Markdown.
    pub fn markdown(&self) -> String {
        let row = |cells: &[String]| {
            let cells: Vec<String> =
                cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
            format!("| {} |", cells.join(" | "))
        };
        let mut lines = vec![row(&self.head), format!("|{}", "---|".repeat(self.head.len()))];
        lines.extend(self.rows.iter().map(|cells| row(cells)));
        let parts = [self.intro.clone(), lines.join("\n"), self.outro.clone()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_in_a_cell_ends_no_cell() {
        let mut table = Table::new("Before:", &["a", "b"]);
        table.rows.push(vec!["x|y".to_owned(), "1".to_owned()]);
        table.outro = "After.".to_owned();
        assert_eq!(table.markdown(), "Before:\n\n| a | b |\n|---|---|\n| x\\|y | 1 |\n\nAfter.");
    }
}
