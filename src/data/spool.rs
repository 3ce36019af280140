//! Episodes on the disk while others are still played, so that memory holds none that has ended.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use eva_rl_agents::ranks::Ranks;

use super::packed::{pack, unpack};
use super::trajectory::{Outcome, Trajectory};

/// What an episode came to, and where it lies in the file.
struct Spooled {
    start: u64,
    length: usize,
    outcome: Outcome,
}

/// A nameless file of episodes, which is gone when this is, however the program ends.
pub struct Spool {
    state: Mutex<State>,
}

struct State {
    file: BufWriter<File>,
    /// Bytes written.
    length: u64,
    episodes: BTreeMap<usize, Spooled>,
}

impl Spool {
    /// An empty one on the file system of `folder`.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        let file = tempfile::tempfile_in(folder).with_context(|| format!("cannot write in {folder:?}"))?;
        let state = State { file: BufWriter::new(file), length: 0, episodes: BTreeMap::new() };
        Ok(Self { state: Mutex::new(state) })
    }

    /// Takes an episode in, by its number.
    pub fn push(&self, number: usize, episode: &Trajectory) -> anyhow::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = pack(episode);
        state.file.write_all(&bytes).context("cannot write the episodes that were played")?;
        let spooled = Spooled { start: state.length, length: bytes.len(), outcome: episode.outcome() };
        state.length += bytes.len() as u64;
        state.episodes.insert(number, spooled);
        Ok(())
    }

    /// Gives the first rank what the others have played, of `episodes` in all: each has those whose number leaves its
    /// own where it is divided by how many ranks there are.
    pub fn gather(&self, ranks: &dyn Ranks, episodes: usize) -> anyhow::Result<()> {
        for number in (0..episodes).filter(|number| number % ranks.size() != 0) {
            let player = number % ranks.size();
            let mut bytes = if ranks.rank() == player { self.bytes_of(number)? } else { Vec::new() };
            ranks.broadcast(player, &mut bytes);
            if ranks.is_first() {
                let episode = unpack(&bytes).context("an episode that was sent is not whole")?;
                self.push(number, &episode)?;
            }
        }
        Ok(())
    }

    /// One episode, as it lies in the file.
    fn bytes_of(&self, number: usize) -> anyhow::Result<Vec<u8>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.file.flush().context("cannot write the episodes that were played")?;
        read(state.file.get_ref(), state.episodes.get(&number).context("an episode was not played")?)
    }

    /// What the episodes came to, by their numbers.
    pub fn outcomes(&self) -> Vec<Outcome> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.episodes.values().map(|spooled| spooled.outcome).collect()
    }

    /// Every episode, by its number, read as it is asked for.
    pub fn into_episodes(self) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Trajectory>>> {
        let State { file, episodes, .. } = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let file = file.into_inner().context("cannot write the episodes that were played")?;
        Ok(episodes.into_values().map(move |spooled| {
            unpack(&read(&file, &spooled)?).context("an episode that was played is not whole")
        }))
    }
}

/// An episode's bytes in the file.
fn read(file: &File, spooled: &Spooled) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; spooled.length];
    file.read_exact_at(&mut bytes, spooled.start).context("cannot read the episodes that were played")?;
    Ok(bytes)
}
