//! Progress bars on stderr, drawn where that is a terminal.

use std::sync::LazyLock;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// A bar of so many `unit`, such as episodes, below those that are there; it is gone once it is dropped.
pub fn bar(total: usize, unit: &str) -> ProgressBar {
    let style =
        ProgressStyle::with_template(&format!("{{wide_bar}} {{pos}}/{{len}} {unit} {{msg}} eta {{eta}}"));
    let bar = ProgressBar::new(total as u64).with_style(style.expect("the template is well-formed"));
    BARS.add(bar)
}

/// Writes to stderr with the bars out of the way.
pub fn above_bars(write: impl FnOnce()) {
    BARS.suspend(write);
}
