//! SIGINT, SIGTERM and SIGHUP ask a run to stop at its next update; asking again ends the program at once.

use std::fmt;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::getppid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

/// Within this time of the first a further signal is the same request: `timeout` sends its signal to the
/// program and then to the program's group, and a closed terminal is told by the kernel and by the shell.
const ONE_REQUEST: Duration = Duration::from_millis(300);

/// The first signal that came; 0 where none has.
static FIRST: AtomicI32 = AtomicI32::new(0);

/// Listens from here on. A program that never does ends by the signal itself, at once.
pub fn listen() -> std::io::Result<()> {
    let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP); // `nohup` means it
    let mut signals = Signals::new([SIGINT, SIGTERM].into_iter().chain(hangup))?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut first: Option<Instant> = None;
        for signal in signals.forever() {
            match first {
                None => {
                    first = Some(Instant::now());
                    FIRST.store(signal, Ordering::SeqCst);
                }
                Some(at) if at.elapsed() < ONE_REQUEST => {}
                Some(_) => end_by(signal),
            }
        }
    })?;
    Ok(())
}

/// Has the system send SIGTERM to this process when its parent ends, where it can (Linux).
pub fn follow(parent: i32) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    // It may have ended before.
    if getppid().is_none_or(|found| found.as_raw_nonzero().get() != parent) {
        end_by(SIGTERM)
    } else {
        Ok(())
    }
}

/// The signal by which the run was asked to stop.
pub fn asked() -> Option<i32> {
    Some(FIRST.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
}

/// Ends the program as this signal ends one that does not handle it, so that a shell sees what happened.
pub fn end_by(signal: i32) -> ! {
    let _cannot_return = low_level::emulate_default_handler(signal);
    low_level::exit(128 + signal)
}

/// Whether the program was started with this signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// A run that was asked to stop, and has: the program tells this and ends by the signal.
#[derive(Debug)]
pub struct Stopped {
    /// What asked.
    pub signal: i32,
    /// Where the work was saved, and how to resume it.
    pub text: String,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = low_level::signal_name(self.signal).unwrap_or("a signal");
        write!(f, "stopped by {name} {}", self.text)
    }
}

impl std::error::Error for Stopped {}

/// Work that was given up half-way because the run is to stop; nothing of it counts.
#[derive(Debug)]
pub struct Abandoned;

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("abandoned, because the run is to stop")
    }
}

impl std::error::Error for Abandoned {}

/// Fails where the run is to stop: for the middle of work that can be abandoned.
pub fn check() -> Result<(), Abandoned> {
    if asked().is_some() { Err(Abandoned) } else { Ok(()) }
}

/// What was done, or nothing where it was abandoned.
pub fn unless_abandoned<T>(done: anyhow::Result<T>) -> anyhow::Result<Option<T>> {
    match done {
        Err(error) if error.is::<Abandoned>() => Ok(None),
        done => done.map(Some),
    }
}
