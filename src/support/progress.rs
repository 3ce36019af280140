//! Progress bars on stderr, drawn where that is a terminal.

use std::sync::LazyLock;

use indicatif::{BinaryBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::silence::is_silent;

static BARS: LazyLock<MultiProgress> = LazyLock::new(|| match is_silent() {
    true => MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
    false => MultiProgress::new(),
});

/// A bar of so many `unit`, such as episodes, below those that are there; it is gone once it is dropped.
pub fn bar(total: usize, unit: &str) -> ProgressBar {
    let style =
        ProgressStyle::with_template(&format!("{{wide_bar}} {{pos}}/{{len}} {unit} {{msg}} eta {{eta}}"));
    let bar = ProgressBar::new(total as u64).with_style(style.expect("the template is well-formed"));
    BARS.add(bar)
}

/// A bar of bytes that are sent or brought, of what `name` says.
pub fn byte_bar(total: u64, name: &str) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}");
    let bar = ProgressBar::new(total).with_style(style.expect("the template is well-formed"));
    BARS.add(bar.with_message(name.to_owned()))
}

/// A number of bytes for people.
pub fn in_bytes(count: u64) -> String {
    BinaryBytes(count).to_string()
}

/// Writes to stderr with the bars out of the way.
pub fn above_bars(write: impl FnOnce()) {
    BARS.suspend(write);
}
