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

use super::process::{Fork, Process, WorkerConfig};
use crate::core::worker_failure::Failure;

/// The other side, which needs no file beside the program.
const SCRIPT: &str = include_str!("worker.py");

/// Starts workers.
#[derive(Debug)]
pub(super) struct Starter {
    python: PathBuf,
    /// What every worker is told but for its rows.
    order: WorkerConfig,
    timeout: Duration,
    server: Option<Arc<ForkServer>>,
}

impl Starter {
    /// For workers of this interpreter.
    pub(super) fn new(python: PathBuf, order: WorkerConfig, timeout: Duration) -> Self {
        Self { python, order, timeout, server: None }
    }

    /// The interpreter.
    pub(super) fn python(&self) -> &Path {
        &self.python
    }

    /// Starts a worker for so many rows, which [`Process::contract`] then hears from.
    pub(super) fn start(&mut self, rows: usize) -> Result<Process, Failure> {
        let server = match &self.server {
            Some(server) if server.lives() => server,
            _ => self.server.insert(Arc::new(ForkServer::start(&self.python, &self.order, self.timeout)?)),
        };
        let order = WorkerConfig { rows, ..self.order.clone() };
        Process::fork(Arc::<ForkServer>::clone(server), &order, self.timeout)
    }
}

/// A process that forks workers, and is told how they end.
#[derive(Debug)]
pub(super) struct ForkServer(Mutex<Process>);

impl ForkServer {
    fn start(python: &Path, order: &WorkerConfig, timeout: Duration) -> Result<Self, Failure> {
        let mut process = Process::spawn(python, SCRIPT, timeout)?;
        process.send_json(order)?;
        Ok(Self(Mutex::new(process)))
    }

    fn lives(&self) -> bool {
        self.process().lives()
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.0.lock().expect("nobody panics while speaking with it")
    }
}

impl Fork for ForkServer {
    fn fork(&self, channel: BorrowedFd) -> Result<Pid, Failure> {
        let mut process = self.process();
        process.send(b"F")?;
        process.send_file(channel)?;
        let number = process.number()?;
        Pid::from_raw(number).ok_or_else(|| Failure::Nonsense(format!("it forked process {number}")))
    }

    fn status(&self, forked: Pid) -> Result<ExitStatus, Failure> {
        let mut process = self.process();
        process.send(b"W")?;
        process.send(&forked.as_raw_nonzero().get().to_le_bytes())?;
        Ok(ExitStatus::from_raw(process.number()?))
    }
}
