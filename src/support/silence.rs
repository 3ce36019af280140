//! Whether this process says what it does: of several ranks the first alone speaks.

use std::sync::atomic::{AtomicBool, Ordering};

static SILENT: AtomicBool = AtomicBool::new(false);

/// From here on messages, results and progress bars of this process are not shown; errors are.
pub fn begin() {
    SILENT.store(true, Ordering::Relaxed);
}

/// Whether that was said.
pub fn is_silent() -> bool {
    SILENT.load(Ordering::Relaxed)
}
