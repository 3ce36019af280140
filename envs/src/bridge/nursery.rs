//! The process that workers are forked from.
//!
//! It imports their library once, and they share its memory, and so the caches, for as long as they only read it.

use std::os::fd::BorrowedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustix::process::Pid;

use super::failure::Failure;
use super::process::{Order, Process};

/// The other side, which needs no file beside the program.
const SCRIPT: &str = include_str!("worker.py");

/// Starts workers.
#[derive(Debug)]
pub(super) struct Starter {
    python: PathBuf,
    /// What every worker is told but for its rows.
    order: Order,
    timeout: Duration,
    nursery: Option<Arc<Nursery>>,
}

impl Starter {
    /// For workers of this interpreter.
    pub(super) fn new(python: PathBuf, order: Order, timeout: Duration) -> Self {
        Self { python, order, timeout, nursery: None }
    }

    /// The interpreter.
    pub(super) fn python(&self) -> &Path {
        &self.python
    }

    /// Starts a worker for so many rows, which [`Process::contract`] then hears from.
    pub(super) fn start(&mut self, rows: usize) -> Result<Process, Failure> {
        let nursery = match &self.nursery {
            Some(nursery) if nursery.lives() => nursery,
            _ => self.nursery.insert(Arc::new(Nursery::start(&self.python, &self.order, self.timeout)?)),
        };
        let order = Order { rows, ..self.order.clone() };
        Process::fork(Arc::clone(nursery), &order, self.timeout)
    }
}

/// A process that forks workers, and is told how they end.
#[derive(Debug)]
pub(super) struct Nursery(Mutex<Process>);

impl Nursery {
    fn start(python: &Path, order: &Order, timeout: Duration) -> Result<Self, Failure> {
        let mut process = Process::spawn(python, SCRIPT, timeout)?;
        process.send_json(order)?;
        Ok(Self(Mutex::new(process)))
    }

    fn lives(&self) -> bool {
        self.process().lives()
    }

    /// A new process, which is given this end of its channel.
    pub(super) fn fork(&self, channel: BorrowedFd) -> Result<Pid, Failure> {
        let mut process = self.process();
        process.send(b"F")?;
        process.send_file(channel)?;
        let number = process.number()?;
        Pid::from_raw(number).ok_or_else(|| Failure::Nonsense(format!("it forked process {number}")))
    }

    /// How a process ended that it forked, once it has.
    pub(super) fn status(&self, forked: Pid) -> Result<ExitStatus, Failure> {
        let mut process = self.process();
        process.send(b"W")?;
        process.send(&forked.as_raw_nonzero().get().to_le_bytes())?;
        Ok(ExitStatus::from_raw(process.number()?))
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.0.lock().expect("nobody panics while speaking with it")
    }
}
