//! Episodes on the disk while others are still played, so that memory holds none that has ended.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;

use super::frames::Frames;
use super::trajectory::{Outcome, Trajectory};

/// A nameless file of episodes, which is gone when this is, however the program ends.
pub struct Spool {
    state: Mutex<State>,
    observation_width: usize,
    action_width: usize,
}

struct State {
    file: BufWriter<File>,
    /// Bytes written.
    length: u64,
    episodes: BTreeMap<usize, (u64, Outcome)>,
}

impl Spool {
    /// An empty one on the file system of `folder`.
    pub fn new(folder: &Path, observation_width: usize, action_width: usize) -> anyhow::Result<Self> {
        let file = tempfile::tempfile_in(folder).with_context(|| format!("cannot write in {folder:?}"))?;
        let state = State { file: BufWriter::new(file), length: 0, episodes: BTreeMap::new() };
        Ok(Self { state: Mutex::new(state), observation_width, action_width })
    }

    /// Takes an episode in, by its number.
    pub fn push(&self, number: usize, episode: &Trajectory) -> anyhow::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let start = state.length;
        for numbers in [&episode.observations.all()[..], &episode.actions.all(), &episode.rewards] {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            state.file.write_all(&bytes).context("cannot write the episodes that were played")?;
            state.length += bytes.len() as u64;
        }
        state.episodes.insert(number, (start, episode.outcome()));
        Ok(())
    }

    /// What the episodes came to, by their numbers.
    pub fn outcomes(&self) -> Vec<Outcome> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.episodes.values().map(|(_, outcome)| *outcome).collect()
    }

    /// Every episode, by its number, read as it is asked for.
    pub fn into_episodes(self) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Trajectory>>> {
        let (width, action_width) = (self.observation_width, self.action_width);
        let State { file, episodes, .. } = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let file = file.into_inner().context("cannot write the episodes that were played")?;
        Ok(episodes.into_values().map(move |(start, outcome)| {
            let mut offset = start;
            let mut next = |count: usize| -> anyhow::Result<Vec<f32>> {
                let mut bytes = vec![0; count * size_of::<f32>()];
                file.read_exact_at(&mut bytes, offset)
                    .context("cannot read the episodes that were played")?;
                offset += bytes.len() as u64;
                let (numbers, _) = bytes.as_chunks();
                Ok(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
            };
            let Outcome { steps, end, succeeded, .. } = outcome;
            let observations = next((steps + 1) * width)?.into();
            let actions = next(steps * action_width)?.into();
            Ok(Trajectory {
                observations,
                frames: Frames::default(),
                actions,
                rewards: next(steps)?,
                end,
                succeeded,
            })
        }))
    }
}
