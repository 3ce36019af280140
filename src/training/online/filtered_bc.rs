//! Filtered behaviour cloning of the best trajectories so far, the simplest baseline.
//!
//! Every round plays the greedy actions with noise; of all episodes, offline and online, those of
//! highest return are cloned (the "%BC" of Chen et al. 2021, arXiv 2106.01345, kept up online).

use crate::config::FilteredBcConfig;
use crate::data::Replay;
use crate::run_folder::replay_state;
use crate::training::session::{Explorer, Run};

/// Runs to its end.
pub fn filtered_bc(run: &mut Run, settings: &FilteredBcConfig, offline: Replay) -> anyhow::Result<()> {
    let mut replay = run.replay(settings.replay_capacity, offline)?;
    let ranks = run.ranks;
    while run.checkpoint_and_evaluate(|| replay_state(&replay, ranks))? {
        if run.round_begins(&settings.exploration) {
            let Some(episodes) = run.explore(&settings.exploration, Explorer::Noisy(settings.noise), 1)?
            else {
                continue;
            };
            for episode in episodes {
                replay.push_to_best(episode);
            }
        }
        let part = run.windows(&replay);
        let (inputs, update_loss) = run.loss(&part);
        run.step(&inputs, &update_loss)?;
    }
    Ok(())
}
