//! Online DT (Zheng, Zhang and Grover 2022, arXiv 2202.05607, Algorithm 1).
//!
//! Every round draws actions from π(a | s, R) conditioned on a high target return, relabels the episodes with
//! the returns that they did earn (hindsight), and steps on −log π(a | s, R) − λ·H(π) over windows of a
//! replay that begins with the best offline trajectories; λ holds the entropy at its target (their Eq. 5).

use crate::config::OdtConfig;
use crate::data::Replay;
use crate::run_folder::replay_state;
use crate::training::session::{Explorer, Run};

/// Runs to its end.
pub fn odt(run: &mut Run, settings: &OdtConfig, offline: Replay) -> anyhow::Result<()> {
    let mut replay = run.replay(settings.replay_capacity, offline)?;
    let ranks = run.ranks;
    while run.checkpoint_and_evaluate(|| replay_state(&replay, ranks))? {
        if run.round_begins(&settings.exploration) {
            let Some(episodes) = run.explore(&settings.exploration, Explorer::Sampled, 1)? else { continue };
            for episode in episodes {
                replay.push(episode); // which relabels it
            }
        }
        let part = run.windows(&replay);
        let (inputs, update_loss) = run.loss(&part);
        run.step(&inputs, &update_loss)?;
    }
    Ok(())
}
