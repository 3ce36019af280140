//! One TensorBoard event file, whose errors are the run's: tensorboard-rs writes its own on a thread that panics.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use protobuf::Message;
use tensorboard_proto::event::Event;
use tensorboard_proto::summary::Summary;
use tensorboard_rs::record_writer::RecordWriter;

/// The version that TensorBoard's readers ask for.
const VERSION: &str = "brain.Event:2";

/// What the names of event files begin with.
pub(super) const PREFIX: &str = "events.out.tfevents.";

/// An event file that grows.
pub(super) struct EventFile {
    path: PathBuf,
    records: RecordWriter<BufWriter<File>>,
}

impl EventFile {
    /// A new file in `folder`, which is made where it is missing.
    pub fn create(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {folder:?}"))?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let (secs, process) = (now() as u64, std::process::id());
        let names = (0..).map(|number| folder.join(format!("{PREFIX}{secs:010}.{host}.{process}.{number}")));
        for path in names {
            match File::create_new(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot write {path:?}")),
                Ok(file) => {
                    let mut events = Self { path, records: RecordWriter::new(BufWriter::new(file)) };
                    let mut version = Event::new();
                    version.set_file_version(VERSION.to_owned());
                    events.event(version, 0)?;
                    return Ok(events);
                }
            }
        }
        unreachable!("there are names without end")
    }

    /// One that keeps nothing.
    pub fn nowhere() -> anyhow::Result<Self> {
        let path = PathBuf::from("/dev/null");
        let file =
            File::options().write(true).open(&path).with_context(|| format!("cannot write {path:?}"))?;
        Ok(Self { path, records: RecordWriter::new(BufWriter::new(file)) })
    }

    /// Adds an event at a step.
    pub fn event(&mut self, mut event: Event, step: usize) -> anyhow::Result<()> {
        event.set_wall_time(now());
        event.set_step(step as i64);
        let bytes = event.write_to_bytes()?;
        self.records.write(&bytes).with_context(|| format!("cannot write {:?}", self.path))
    }

    /// Adds a summary at a step.
    pub fn summary(&mut self, summary: Summary, step: usize) -> anyhow::Result<()> {
        let mut event = Event::new();
        event.set_summary(summary);
        self.event(event, step)
    }

    /// Hands everything to the system.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        self.records.flush().with_context(|| format!("cannot write {:?}", self.path))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
