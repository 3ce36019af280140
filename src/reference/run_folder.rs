//! Every file of a run's folder.

use crate::run_folder::FILES;
use crate::support::tables::markdown;

/// The page of the files.
pub fn page() -> String {
    let mut text = "# The run folder\n\n\
        `eva-rl train` writes everything that it makes into one folder, `runs/CONFIG-seedN` or the one of `--out`. \
        Each file is written aside and renamed, so that a reader never sees half of one. A run has one writer at a \
        time.\n\n"
        .to_owned();
    let rows = FILES.iter().map(|(path, what)| vec![format!("`{path}`"), (*what).to_owned()]);
    text += &markdown(&["file", "what it holds"], rows);
    text + "\n"
}
