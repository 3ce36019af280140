//! Filtered behaviour cloning: imitation of the best trajectories seen so far, the simplest control.
//!
//! Every round plays the likeliest actions with noise; of all episodes, offline and online, those of
//! highest return are imitated (the "%BC" of Chen et al. 2021, arXiv 2106.01345, kept up online).

use crate::config::FilteredBcConfig;
use crate::data::Replay;
use crate::run_folder::replay_state;
use crate::training::session::{Explorer, Run};

/// Runs to its end.
pub fn filtered_bc(run: &mut Run, settings: &FilteredBcConfig, offline: Replay) -> anyhow::Result<()> {
    let mut replay = run.replay(settings.replay_capacity, offline)?;
    while run.tend(|| replay_state(&replay))? {
        if run.round_begins(&settings.exploration) {
            let Some(episodes) = run.explore(&settings.exploration, Explorer::Noisy(settings.noise), 1)?
            else {
                continue;
            };
            for episode in episodes {
                replay.push_to_best(episode);
            }
        }
        let inputs = run.conditioning.inputs(&run.windows(&replay).view());
        let objective = run.learner.objective(&inputs);
        run.step(&inputs, &objective)?;
    }
    Ok(())
}
