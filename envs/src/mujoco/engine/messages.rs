//! What MuJoCo says goes nowhere: by itself it writes warnings to stderr and into the folder that the
//! program runs in.

use std::io::Write;
use std::sync::Once;

use mujoco_rs::logging::set_log_handler;
use mujoco_rs::wrappers::mj_logging::{MjLogMessage, MjtLogLevel};

/// Must be called before MuJoCo is used.
pub(super) fn silence_logs() {
    static ONCE: Once = Once::new();
    #[allow(unsafe_code)]
    // SAFETY: nothing here uses MuJoCo before it has loaded a model, and every load comes here first,
    // where `Once` lets one thread set the handler and makes the others wait.
    ONCE.call_once(|| unsafe { set_log_handler(handle) });
}

/// Warnings are of simulations that grow unstable, which MuJoCo resets, and Gymnasium goes on with.
/// After an error MuJoCo ends the process, so that it is the last chance to say why.
fn handle(message: &MjLogMessage) {
    if message.level() == MjtLogLevel::mjLOG_ERROR {
        let _ = writeln!(std::io::stderr(), "error: MuJoCo: {}", message.subject());
    }
}
