//! Tables: in Markdown for files, in aligned columns for terminals.

use comfy_table::{CellAlignment, ContentArrangement, presets};

/// A table in Markdown. Its cells are not padded to a column's width, so that a longer row changes no other line.
pub fn markdown<C: AsRef<str>>(head: &[C], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let row = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells.map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
        format!("| {} |", cells.join(" | "))
    };
    let mut lines = vec![row(&mut head.iter().map(AsRef::as_ref)), format!("|{}", "---|".repeat(head.len()))];
    lines.extend(rows.into_iter().map(|cells| row(&mut cells.iter().map(String::as_str))));
    lines.join("\n")
}

/// A table for terminals; columns named in `numbers` are aligned to the right.
pub fn aligned(head: &[&str], numbers: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head).add_rows(rows);
    for (column, name) in table.column_iter_mut().zip(head) {
        column.set_padding((0, 2));
        if numbers.contains(name) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_in_a_cell_ends_no_cell() {
        let table = markdown(&["a", "b"], [vec!["x|y".to_owned(), "1".to_owned()]]);
        assert_eq!(table, "| a | b |\n|---|---|\n| x\\|y | 1 |");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [("one", "1"), ("twenty", "20")].map(|(a, b)| vec![a.to_owned(), b.to_owned()]);
        let table = aligned(&["word", "n"], &["n"], rows.to_vec());
        assert_eq!(table, "word     n\none      1\ntwenty  20");
    }
}
