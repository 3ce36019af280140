//! Every tag that TensorBoard shows of a run.

use crate::metrics;
use crate::support::tables::markdown;

/// The page of the tags.
pub fn page() -> String {
    let mut text = "# TensorBoard tags\n\n\
        `tensorboard --logdir runs/mine` shows them; `metrics.jsonl` in the run's folder has the same numbers, one \
        JSON object a line. The axis is the number of updates done. Of a run that explores, the tags under `eval/` \
        and `rollout/` are written over environment steps too, in a TensorBoard run of its own, `env_steps`. Where \
        an evaluation has several target returns, each has its tags below `eval/target_…/`, and the first one the \
        plain tags as well. Names are those of Stable-Baselines3 where it has the number.\n\n"
        .to_owned();
    let rows = metrics::ALL.iter().map(|metric| vec![format!("`{}`", metric.tag), metric.meaning.to_owned()]);
    text += &markdown(&["tag", "meaning"], rows);
    text + "\n"
}
