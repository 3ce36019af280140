//! One process: spoken to, waited for, and ended. It is a worker, or the server of workers.

use std::fmt;
use std::io::{self, IoSlice, PipeWriter, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::{Deserialize, Serialize};

use super::env_contract::EnvContract;
use super::shared_buffer::{SharedBuffer, Widths};
use crate::core::kwargs::Kwargs;
use crate::core::space::ImageLeaf;
use crate::core::worker_failure::Failure;

/// More than any picture or contract has; a longer answer is nonsense.
const MAX_ANSWER: u32 = 1 << 28;

/// How often an answer is looked for before this thread sleeps, from which it wakes slowly.
const SPIN_TRIES: u32 = 100;

/// How long a worker may take to close its environments when it is no longer needed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a process that has closed its channel may take to end.
const GRACE: Duration = Duration::from_secs(1);

/// What a worker is started for.
#[derive(Clone, Debug, Serialize)]
pub(super) struct WorkerConfig {
    /// The class of `worker.py` that does it.
    pub(super) host: Host,
    /// The id, without its prefix.
    pub(super) id: String,
    pub(super) kwargs: Kwargs,
    pub(super) imports: Vec<String>,
    pub(super) rows: usize,
    /// Whether BabyAI's bot plays along.
    pub(super) bot: bool,
}

/// The classes of `worker.py`.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Host {
    Gymnasium,
    #[serde(rename = "envpool")]
    EnvPool,
    #[serde(rename = "metaworld_expert")]
    MetaWorldExpert,
}

/// What a worker is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Reset,
    Step,
    Draw { row: u32 },
    Act { rows: u32 },
}

/// The layout, as `worker.py` is told it.
#[derive(Serialize)]
struct Layout<'a> {
    action_width: usize,
    observation_width: usize,
    infos: &'a [String],
    image: Option<ImageLeaf>,
    expert_width: usize,
}

/// An error of the worker's Python.
#[derive(Deserialize)]
struct Raised {
    error: String,
    package: Option<String>,
}

/// A process. It ends, with all that it started, when this is dropped, and when our process ends in whatever way.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    parent: Parent,
    channel: UnixStream,
    /// Readable once the process is gone, even where children of its own keep the channel open.
    death: OwnedFd,
    /// Its other end is the process's; the kernel kills the process when this one closes.
    _lifeline: PipeWriter,
    timeout: Duration,
    /// Whether it was waited for, so that its number may be another process's by now.
    gone: bool,
    /// How it ended, where that is known.
    status: Option<ExitStatus>,
}

/// Another process of ours that forks workers, and is told how they end.
pub(super) trait Fork: fmt::Debug + Send + Sync {
    /// A new process, which is given this end of its channel.
    fn fork(&self, channel: BorrowedFd) -> Result<Pid, Failure>;

    /// How a process ended that it forked, once it has.
    fn status(&self, forked: Pid) -> Result<ExitStatus, Failure>;
}

/// Who is told how a process ended.
#[derive(Debug)]
enum Parent {
    Us(Child),
    ForkServer(Arc<dyn Fork>),
}

impl Process {
    /// Starts an interpreter with this script.
    pub(super) fn spawn(python: &Path, script: &str, timeout: Duration) -> Result<Self, Failure> {
        let (channel, theirs) = UnixStream::pair()?;
        let child = Command::new(python)
            .args(["-c", script])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(io::stderr())) // what an environment prints is no result
            // Ctrl-C is for this process; and a group can be ended whole.
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::System(format!("cannot start the interpreter {python:?}: {error}")))?;
        Self::with_lifeline(Pid::from_child(&child), Parent::Us(child), channel, timeout)
    }

    /// Has a fork server fork, and tells the fork what it is for; [`Process::contract`] then hears from it.
    pub(super) fn fork(
        server: Arc<dyn Fork>,
        order: &WorkerConfig,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let (channel, theirs) = UnixStream::pair()?;
        let pid = server.fork(theirs.as_fd())?;
        let mut worker = Self::with_lifeline(pid, Parent::ForkServer(server), channel, timeout)?;
        worker.send_json(order)?;
        Ok(worker)
    }

    fn with_lifeline(
        pid: Pid,
        parent: Parent,
        channel: UnixStream,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let (lifeline_end, lifeline) = io::pipe()?;
        let death = pidfd_open(pid, PidfdFlags::empty())?;
        let mut process =
            Self { pid, parent, channel, death, _lifeline: lifeline, timeout, gone: false, status: None };
        process.send_file(lifeline_end.as_fd())?;
        Ok(process)
    }

    /// What the environment is; an expert has none.
    pub(super) fn contract(&mut self) -> Result<Option<EnvContract>, Failure> {
        let text = self.message(self.deadline())?;
        serde_json::from_slice(&text)
            .map_err(|error| Failure::Nonsense(format!("its contract cannot be read: {error}")))
    }

    /// Waits for an answer that is a number.
    pub(super) fn number(&mut self) -> Result<i32, Failure> {
        let text = self.message(self.deadline())?;
        serde_json::from_slice(&text)
            .map_err(|error| Failure::Nonsense(format!("its number cannot be read: {error}")))
    }

    /// Gives it memory.
    pub(super) fn map(
        &mut self,
        rows: usize,
        widths: Widths,
        infos: &[String],
    ) -> Result<SharedBuffer, Failure> {
        let region = SharedBuffer::new(rows, widths)?;
        self.send_file(region.memory().as_fd())?;
        self.send_json(&Layout {
            action_width: widths.action,
            observation_width: widths.observation,
            infos,
            image: widths.image,
            expert_width: widths.expert,
        })?;
        self.done(self.deadline())?;
        Ok(region)
    }

    /// Tells it what to do.
    pub(super) fn tell(&mut self, task: Task) -> Result<(), Failure> {
        let mut bytes = [0; 5];
        let (command, number) = match task {
            Task::Reset => (b'R', None),
            Task::Step => (b'S', None),
            Task::Draw { row } => (b'D', Some(row)),
            Task::Act { rows } => (b'A', Some(rows)),
        };
        bytes[0] = command;
        let length = number.map_or(1, |number| {
            bytes[1..].copy_from_slice(&number.to_le_bytes());
            5
        });
        self.send(&bytes[..length])
    }

    /// By when a worker that is told something now must have answered.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Waits until it has done what it was told.
    pub(super) fn done(&mut self, deadline: Instant) -> Result<(), Failure> {
        let mut mark = [0];
        self.read(&mut mark, deadline)?;
        self.check_mark(mark[0], deadline)
    }

    /// Waits for an answer with something behind it.
    pub(super) fn message(&mut self, deadline: Instant) -> Result<Vec<u8>, Failure> {
        self.done(deadline)?;
        self.rest(deadline)
    }

    fn check_mark(&mut self, mark: u8, deadline: Instant) -> Result<(), Failure> {
        match mark {
            b'.' => Ok(()),
            b'!' => {
                let text = self.rest(deadline)?;
                let raised: Raised = serde_json::from_slice(&text)
                    .map_err(|error| Failure::Nonsense(format!("its error cannot be read: {error}")))?;
                Err(Failure::Raised { error: raised.error, package: raised.package })
            }
            other => {
                Err(Failure::Nonsense(format!("it answered with the byte {other}, which means nothing")))
            }
        }
    }

    /// What stands behind a mark: a length and as many bytes.
    fn rest(&mut self, deadline: Instant) -> Result<Vec<u8>, Failure> {
        let mut length = [0; 4];
        self.read(&mut length, deadline)?;
        let length = u32::from_le_bytes(length);
        if length > MAX_ANSWER {
            return Err(Failure::Nonsense(format!(
                "it answered with {length} bytes, more than anything has"
            )));
        }
        let mut bytes = vec![0; length as usize];
        self.read(&mut bytes, deadline)?;
        Ok(bytes)
    }

    fn read(&mut self, bytes: &mut [u8], deadline: Instant) -> Result<(), Failure> {
        let (mut filled, mut looks) = (0, 0);
        while filled < bytes.len() {
            match recv(&self.channel, &mut bytes[filled..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) | Err(Errno::CONNRESET) => return Err(self.died()),
                Ok((count, _)) => filled += count,
                Err(Errno::AGAIN) if looks < SPIN_TRIES => {
                    looks += 1;
                    thread::yield_now(); // to the workers, where they are many
                }
                Err(Errno::AGAIN) => self.wait_readable(deadline)?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn wait_readable(&mut self, deadline: Instant) -> Result<(), Failure> {
        loop {
            let mut files =
                [PollFd::new(&self.channel, PollFlags::IN), PollFd::new(&self.death, PollFlags::IN)];
            let left = deadline.saturating_duration_since(Instant::now());
            match poll(&mut files, Some(&timespec(left))) {
                Ok(0) => return Err(Failure::Hung { secs: self.timeout.as_secs_f64() }),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if !files[0].revents().is_empty() {
                return Ok(()); // what it said before it died still counts
            }
            return Err(self.died());
        }
    }

    /// How the process ended, of one that has closed its channel.
    fn died(&mut self) -> Failure {
        self.await_death(GRACE); // so that it is its own end that is told
        self.kill();
        Failure::Died(self.status.map_or("is gone".to_owned(), describe))
    }

    /// Ends it and all that it started, now.
    pub(super) fn kill(&mut self) {
        if self.gone {
            return;
        }
        let _dead_already = kill_process_group(self.pid, Signal::KILL);
        self.gone = true;
        self.status = match &mut self.parent {
            Parent::Us(child) => child.wait().ok(),
            Parent::ForkServer(server) => server.status(self.pid).ok(),
        };
    }

    /// Whether it has not ended.
    pub(super) fn lives(&self) -> bool {
        let mut death = [PollFd::new(&self.death, PollFlags::IN)];
        !self.gone && poll(&mut death, Some(&timespec(Duration::ZERO))) == Ok(0)
    }

    fn await_death(&self, longest: Duration) {
        let _timed_out = poll(&mut [PollFd::new(&self.death, PollFlags::IN)], Some(&timespec(longest)));
    }

    pub(super) fn send_file(&mut self, file: BorrowedFd) -> Result<(), Failure> {
        let files = [file];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&files)), "there is space for one");
        match sendmsg(&self.channel, &[IoSlice::new(b"f")], &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(()),
            Err(Errno::PIPE) => Err(self.died()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn send_json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_vec(value).map_err(|error| Failure::System(error.to_string()))?;
        let length =
            u32::try_from(text.len()).map_err(|_| Failure::System("the order is too long".to_owned()))?;
        self.send(&length.to_le_bytes())?;
        self.send(&text)
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self.channel.write_all(bytes) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(self.died()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.gone && self.channel.shutdown(Shutdown::Write).is_ok() {
            self.await_death(CLOSE_TIMEOUT);
        }
        self.kill();
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec::try_from(duration).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => match Signal::from_named_raw(signal) {
            Some(named) => format!("was killed by {named:?}").replace("Signal::", "SIG").replace('"', ""),
            None => format!("was killed by signal {signal}"),
        },
        (None, None) => format!("ended: {status}"),
    }
}
