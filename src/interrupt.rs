//! Ctrl-C asks a run to stop at its next update; a second one ends the program at once.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Listens from here on.
pub fn listen() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })
}

/// Whether the user has asked the run to stop.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}
