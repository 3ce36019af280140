//! Every file of a run's folder.

use crate::run_folder::FILES;

use super::cell;

/// The page of the files.
pub fn page() -> String {
    let mut text = "# The run folder\n\n\
        `eva-rl train` writes everything that it makes into one folder, `runs/CONFIG-seedN` or the one of `--out`. \
        Each file is written aside and renamed, so that a reader never sees half of one. A run has one writer at a \
        time.\n\n\
        | file | what it holds |\n|---|---|\n"
        .to_owned();
    for (path, what) in FILES {
        text += &format!("| `{path}` | {} |\n", cell(what));
    }
    text
}
