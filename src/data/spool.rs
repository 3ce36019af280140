//! Episodes on the disk while others are still played, so that memory holds none that has ended.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use eva_rl_envs::EnvSpec;

use super::frames::Frames;
use super::images::Images;
use super::trajectory::{Outcome, Trajectory};

/// What an episode came to, and where it lies in the file.
struct Spooled {
    start: u64,
    outcome: Outcome,
    /// Of its images, as [`Frames::parts`] has it.
    stride: usize,
    /// Bytes of its images.
    image_bytes: usize,
}

/// A nameless file of episodes, which is gone when this is, however the program ends.
pub struct Spool {
    state: Mutex<State>,
    observation_width: usize,
    action_width: usize,
    /// Infos of a step.
    infos: usize,
    image: Option<[usize; 3]>,
}

struct State {
    file: BufWriter<File>,
    /// Bytes written.
    length: u64,
    episodes: BTreeMap<usize, Spooled>,
}

impl Spool {
    /// An empty one on the file system of `folder`, for episodes of this environment.
    pub fn new(folder: &Path, spec: &EnvSpec) -> anyhow::Result<Self> {
        let file = tempfile::tempfile_in(folder).with_context(|| format!("cannot write in {folder:?}"))?;
        let state = State { file: BufWriter::new(file), length: 0, episodes: BTreeMap::new() };
        Ok(Self {
            state: Mutex::new(state),
            observation_width: spec.observation_width(),
            action_width: spec.action.width(),
            infos: spec.infos.len(),
            image: spec.image,
        })
    }

    /// Takes an episode in, by its number.
    pub fn push(&self, number: usize, episode: &Trajectory) -> anyhow::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let start = state.length;
        for numbers in
            [&episode.observations.all()[..], &episode.actions.all(), &episode.rewards, &episode.infos]
        {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            state.file.write_all(&bytes).context("cannot write the episodes that were played")?;
            state.length += bytes.len() as u64;
        }
        let frames = episode.images.frames();
        let (stride, images) = frames.parts();
        state.file.write_all(images).context("cannot write the episodes that were played")?;
        state.length += images.len() as u64;
        let spooled = Spooled { start, outcome: episode.outcome(), stride, image_bytes: images.len() };
        state.episodes.insert(number, spooled);
        Ok(())
    }

    /// What the episodes came to, by their numbers.
    pub fn outcomes(&self) -> Vec<Outcome> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.episodes.values().map(|spooled| spooled.outcome).collect()
    }

    /// Every episode, by its number, read as it is asked for.
    pub fn into_episodes(self) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Trajectory>>> {
        let (width, action_width, shape) = (self.observation_width, self.action_width, self.image);
        let told = self.infos;
        let State { file, episodes, .. } = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let file = file.into_inner().context("cannot write the episodes that were played")?;
        Ok(episodes.into_values().map(move |Spooled { start, outcome, stride, image_bytes }| {
            let mut offset = start;
            let mut bytes = |length: usize| -> anyhow::Result<Vec<u8>> {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, offset)
                    .context("cannot read the episodes that were played")?;
                offset += length as u64;
                Ok(bytes)
            };
            let mut next = |count: usize| -> anyhow::Result<Vec<f32>> {
                let bytes = bytes(count * size_of::<f32>())?;
                let (numbers, _) = bytes.as_chunks();
                Ok(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
            };
            let Outcome { steps, end, succeeded, .. } = outcome;
            let observations = next((steps + 1) * width)?.into();
            let actions = next(steps * action_width)?.into();
            let rewards = next(steps)?;
            let infos = next(steps * told)?;
            let images = match shape {
                None => Images::default(),
                Some(shape) => {
                    let frames = Frames::from_parts(shape, steps + 1, stride, bytes(image_bytes)?);
                    frames.context("an episode that was played has lost its images")?.into()
                }
            };
            Ok(Trajectory { observations, images, actions, rewards, infos, end, succeeded })
        }))
    }
}
