//! A table of a report, for Markdown and for pages.

use serde::Serialize;

use crate::support::tables;

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
        let table = tables::markdown(&self.head, self.rows.iter().cloned());
        let parts = [self.intro.clone(), table, self.outro.clone()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
    }
}
