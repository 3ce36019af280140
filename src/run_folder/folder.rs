//! The folder of one run: its config, its checkpoints, its best policy, its model card.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use eva_rl_agents::model::{self, Given, TransformerPolicy};
use eva_rl_agents::tensor::file::{self as tensor_file, TensorFile};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::evaluation::{self, Evaluated};
use crate::support::atomic::{is_aside, replace_folder, write_file, write_folder};
use crate::support::errors::{InputError, OrInput, tell};

/// Held by the one writer, whose process it names.
const LOCK: &str = ".lock";

/// Where a run stands, beside its tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Updates done.
    pub updates: usize,
    /// Rounds of exploration done.
    pub rounds: usize,
    /// Steps taken in exploration.
    pub env_steps: usize,
    /// Mean return of the best evaluation so far.
    pub best: Option<f64>,
    /// Seconds that the run has taken, over all its parts.
    pub elapsed_secs: f64,
    /// The greatest return-to-go of exploration, once there was any.
    #[serde(default)]
    pub max_return_to_go: Option<f32>,
    /// The losses since the last record of their mean.
    #[serde(default)]
    pub losses: Vec<f64>,
    /// Every evaluation so far, as `evaluation.json` has them for readers.
    #[serde(default)]
    pub evaluations: Vec<Evaluated>,
}

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct RunDir {
    root: PathBuf,
    /// Whether this process writes it; of several ranks the first does.
    writes: bool,
}

/// The one writer of a run or of a sweep, for as long as this lives; the system lets go of it when the process ends.
#[derive(Debug)]
pub struct Writer {
    _lock: File,
}

impl Writer {
    /// Becomes the one writer of a folder, a `what`; refused while another process is.
    pub fn of(folder: &Path, what: &str) -> anyhow::Result<Self> {
        let path = folder.join(LOCK);
        let cannot = || format!("cannot write {path:?}");
        let file = File::options().create(true).read(true).write(true).truncate(false).open(&path);
        let mut file = file.with_context(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut writer = String::new();
                let _unknown = file.read_to_string(&mut writer);
                return Err(InputError(format!(
                    "process {} is writing the {what} {folder:?}; a {what} has one writer at a time",
                    writer.trim()
                ))
                .into());
            }
            Err(TryLockError::Error(error)) => {
                tell(&format!(
                    "{path:?} cannot be locked ({error}): make sure that nobody else writes this {what}"
                ));
            }
        }
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).with_context(cannot)?;
        Ok(Self { _lock: file })
    }
}

/// A checkpoint that was read back.
pub struct Checkpoint {
    /// Where it lies.
    pub folder: PathBuf,
    /// Where the run stood.
    pub state: RunState,
    /// Its training state by name.
    pub tensors: HashMap<String, Tensor>,
}

impl RunDir {
    /// Makes the folder, which must not exist, with the config as run.
    pub fn create(root: &Path, config: &str) -> anyhow::Result<Self> {
        write_folder(root, |folder| {
            fs::create_dir(folder.join("checkpoints"))?;
            fs::write(folder.join("config.toml"), config)?;
            Ok(())
        })?;
        Ok(Self { root: root.to_owned(), writes: true })
    }

    /// The folder of a run that another rank writes: what is saved here goes nowhere.
    pub fn follow(root: &Path) -> Self {
        Self { root: root.to_owned(), writes: false }
    }

    /// Whether this process writes it.
    pub fn is_written_here(&self) -> bool {
        self.writes
    }

    /// A run that was started before.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        if !root.join("config.toml").is_file() {
            return Err(InputError(format!("{root:?} is no run: it has no config.toml")).into());
        }
        Ok(Self { root: root.to_owned(), writes: true })
    }

    /// Gives a run another config to go on with; until it ends again it has no model card.
    pub fn reopen(&self, config: &str) -> anyhow::Result<()> {
        let card = self.root.join("README.md");
        if card.exists() {
            fs::remove_file(&card).with_context(|| format!("cannot remove {card:?}"))?;
        }
        self.write("config.toml", config)
    }

    /// Becomes the run's one writer; refused while another process is. What writers left half-written when they
    /// were killed is removed.
    pub fn lock(&self) -> anyhow::Result<Writer> {
        let writer = Writer::of(&self.root, "run")?;
        for folder in [self.root.clone(), self.root.join("checkpoints")] {
            remove_left_over(&folder).with_context(|| format!("cannot tidy {folder:?}"))?;
        }
        Ok(writer)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The config as run.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// Saves a checkpoint, whole or not at all; `fill` adds the adapter or policy.
    pub fn save(
        &self,
        state: &RunState,
        tensors: &[(String, Tensor)],
        fill: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if !self.writes {
            return Ok(());
        }
        let folder = self.root.join("checkpoints").join(format!("{:08}", state.updates));
        if folder.exists() {
            let text = eva_rl_agents::read_text(&folder.join("state.json")).unwrap_or_default();
            let saved = serde_json::from_str::<RunState>(&text).unwrap_or_default();
            if (RunState { elapsed_secs: state.elapsed_secs, ..saved }) == *state {
                return Ok(()); // the same update of the same run
            }
            // It was saved when its evaluation was abandoned, which has been made since.
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {folder:?}"))?;
        }
        write_folder(&folder, |folder| {
            fill(folder)?;
            tensor_file::write(tensors, &folder.join("training_state.safetensors"))?;
            fs::write(folder.join("state.json"), serde_json::to_string_pretty(state)? + "\n")?;
            Ok(())
        })
    }

    /// Removes all checkpoints but the latest `count`.
    pub fn keep_latest(&self, count: usize) -> anyhow::Result<()> {
        if !self.writes {
            return Ok(());
        }
        let mut folders = self.checkpoints()?;
        folders.truncate(folders.len().saturating_sub(count));
        for folder in folders {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {folder:?}"))?;
        }
        Ok(())
    }

    /// The folders of all checkpoints, the latest last.
    fn checkpoints(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        for entry in fs::read_dir(self.root.join("checkpoints")).or_input()? {
            let path = entry.or_input()?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().parse::<usize>().is_ok()) {
                folders.push(path);
            }
        }
        folders.sort();
        Ok(folders)
    }

    /// Puts `fill`'s files in the place of `best/`.
    pub fn save_best(&self, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
        if self.writes { replace_folder(&self.root.join("best"), fill) } else { Ok(()) }
    }

    /// Writes one file whole: aside, then renamed.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        if !self.writes {
            return Ok(());
        }
        write_file(&self.root.join(name), |aside| Ok(fs::write(aside, text)?))
    }

    /// The evaluations of a run that has been evaluated, as `evaluation.json` has them.
    pub fn evaluations(&self) -> anyhow::Result<Vec<Evaluated>> {
        evaluation::read(&self.root.join("evaluation.json"))
    }

    /// Where the run stood at its latest checkpoint whose state can be read, if there is one.
    pub fn last_state(&self) -> Option<RunState> {
        let read = |folder: &PathBuf| {
            serde_json::from_str(&eva_rl_agents::read_text(&folder.join("state.json")).ok()?).ok()
        };
        self.checkpoints().ok()?.iter().rev().find_map(read)
    }

    /// Every checkpoint, the latest last.
    pub fn all(&self) -> anyhow::Result<Vec<Checkpoint>> {
        self.checkpoints()?.iter().map(|folder| Checkpoint::read(folder)).collect()
    }

    /// The latest checkpoint that can be read, if there are any, and why each later one cannot.
    pub fn latest(&self) -> anyhow::Result<(Option<Checkpoint>, Vec<Torn>)> {
        let mut torn = Vec::new();
        for folder in self.checkpoints()?.into_iter().rev() {
            match Checkpoint::read(&folder) {
                Ok(checkpoint) => return Ok((Some(checkpoint), torn)),
                Err(error) => torn.push(Torn { folder, reason: error.to_string() }),
            }
        }
        match torn.first() {
            None => Ok((None, torn)),
            Some(Torn { reason, .. }) => Err(InputError(reason.clone()).into()),
        }
    }
}

/// Removes what a process that was killed had made aside.
fn remove_left_over(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_aside(&entry.file_name().to_string_lossy()) {
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
    }
    Ok(())
}

/// A checkpoint that cannot be read.
#[derive(Debug)]
pub struct Torn {
    /// Where it lies.
    pub folder: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl Torn {
    /// Renames the folder, so that nobody takes it for a checkpoint.
    pub fn put_aside(&self) -> anyhow::Result<()> {
        let names = (1..).map(|number| match number {
            1 => "torn".to_owned(),
            number => format!("torn{number}"),
        });
        let mut asides = names.map(|name| self.folder.with_extension(name));
        let aside = asides.find(|path| path.symlink_metadata().is_err()).expect("there are names enough");
        fs::rename(&self.folder, &aside).with_context(|| format!("cannot rename {:?}", self.folder))
    }
}

impl Checkpoint {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("state.json");
        let text = eva_rl_agents::read_text(&path)
            .map_err(|error| InputError(format!("cannot read {path:?}: {error}")))?;
        let state = serde_json::from_str(&text).map_err(|error| {
            InputError(format!("{path:?} is no state of a run: {}", eva_rl_agents::in_words(&error)))
        })?;
        let path = folder.join("training_state.safetensors");
        let tensors = TensorFile::open(&path).and_then(|file| file.read_all()).or_input()?;
        let found = Self { folder: folder.to_owned(), state, tensors: tensors.into_iter().collect() };
        if folder.join("policy").is_dir() {
            found.policy(Device::Cpu)?; // it may be torn too
        }
        Ok(found)
    }

    /// The policy of a run that trains all of it.
    pub fn policy(&self, device: Device) -> anyhow::Result<TransformerPolicy> {
        model::read(&self.folder.join("policy"), Given::default(), device).or_input()
    }
}
