//! The numbers, each with its tag and its meaning.

use std::fmt;

/// A number that a run reports, and what it means. Its axis is the run's updates; in a run that explores, what
/// episodes came to is written over environment steps too.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// TensorBoard's name, Stable-Baselines3's where it has one.
    pub tag: &'static str,
    /// What the number is.
    pub meaning: &'static str,
}

impl Metric {
    /// Its tag for one of several modules or environments, whose name takes the place of `NAME`.
    pub fn tag_of(&self, name: impl fmt::Display) -> String {
        self.tag.replace("NAME", &name.to_string())
    }
}

/// Declares each number, and [`ALL`] of them in this order.
macro_rules! metrics {
    ($($(#[$docs:meta])* $name:ident = $tag:literal: $meaning:literal;)*) => {
        $($(#[$docs])* pub const $name: Metric = Metric { tag: $tag, meaning: $meaning };)*

        /// Every number that a run may report.
        pub const ALL: &[Metric] = &[$($name),*];
    };
}

metrics! {
    /// Return of an exploration.
    ROLLOUT_RETURN = "rollout/ep_rew_mean":
        "mean undiscounted return of the episodes of a round";
    /// Length of an exploration.
    ROLLOUT_LENGTH = "rollout/ep_len_mean":
        "mean steps of the episodes of a round";
    /// Success of an exploration.
    ROLLOUT_SUCCESS = "rollout/success_rate":
        "fraction of a round's episodes that succeeded";
    /// What failing workers cost an exploration.
    ROLLOUT_LOST = "rollout/lost_episodes":
        "episodes of a round that a worker's failure cut short, and that were played again; absent if none";
    /// Return of an evaluation.
    EVAL_RETURN = "eval/mean_reward":
        "mean undiscounted return, conditioned on the first target return";
    /// Spread of an evaluation.
    EVAL_STD = "eval/std_reward":
        "standard deviation of the undiscounted returns over the evaluation's episodes";
    /// Length of an evaluation.
    EVAL_LENGTH = "eval/mean_ep_length":
        "mean steps of an evaluation's episodes";
    /// Success of an evaluation.
    EVAL_SUCCESS = "eval/success_rate":
        "fraction of an evaluation's episodes that succeeded";
    /// Return of an evaluation, of one of several tasks.
    EVAL_TASK_RETURN = "eval/mean_reward/NAME":
        "mean undiscounted return in each of several tasks, by its environment's id";
    /// Success of an evaluation, of one of several tasks.
    EVAL_TASK_SUCCESS = "eval/success_rate/NAME":
        "fraction of episodes that succeeded in each of several tasks, by its environment's id";
    /// Score of an evaluation.
    EVAL_SCORE = "eval/normalized_score":
        "100 · (mean return − random) / (expert − random), by the environment's reference returns";
    /// Loss of an evaluation.
    EVAL_LOSS = "eval/loss":
        "mean of the loss over windows of the validation episodes";
    /// A video of an evaluation.
    EVAL_VIDEO = "eval/episode":
        "the first episode of the first and of the last evaluation, in 200 frames at most";
    /// Speed of exploration.
    FPS = "time/fps":
        "environment steps per second of exploration";
    /// Steps of exploration.
    TIMESTEPS = "time/total_timesteps":
        "environment steps of exploration so far";
    /// What waiting for other ranks takes.
    COMMUNICATION_SECS = "time/communication":
        "seconds per update that rank 0 waited for the other ranks, and for what they sent, since the last record";
    /// What ranks give each other.
    COMMUNICATED_BYTES = "time/communicated_bytes":
        "bytes per update that rank 0 gave to sums and gathers since the last record; at step 0 those of the adapters' initialisation";
    /// The loss.
    LOSS = "train/loss":
        "mean of the loss since the last record";
    /// The learning rate.
    LEARNING_RATE = "train/learning_rate":
        "learning rate of the last update";
    /// Gradient.
    GRAD_NORM = "train/grad_norm":
        "joint L2 norm of the gradients before clipping, last update";
    /// Likelihood.
    LOG_LIKELIHOOD = "train/log_likelihood":
        "mean log-likelihood of the recorded actions, last update: a log-density between the bounds, a log-probability at them";
    /// Entropy.
    ENTROPY = "train/entropy":
        "mean entropy of the actions, last update; what lies at the bounds counts as one action";
    /// What the likelihood takes for being at a bound.
    SATURATED_FRACTION = "train/saturated_fraction":
        "fraction of a batch's recorded action numbers that lie at their bounds, last update";
    /// How far drawn actions spread.
    ACTION_STD = "train/action_std":
        "mean standard deviation of the actions before they are clipped, in halves of the action range, last update; at update 0 their initial value";
    /// Temperature.
    TEMPERATURE = "train/temperature":
        "weight of the entropy, last update";
    /// What the critics do not explain.
    CRITIC_LOSS = "train/critic_loss":
        "mean squared error of both critics, of returns divided by the policy's return scale, last update";
    /// What the critics think of the policy.
    CRITIC_VALUE = "train/critic_value":
        "mean of the first critic over the policy's actions, in the environment's units, last update";
    /// How far a policy gradient has gone.
    CLIP_FRACTION = "train/clip_fraction":
        "fraction of a batch's sub-trajectories whose likelihood ratio lies outside the clip, last update";
    /// EVA's convergence; its axis is EVA's batches.
    EVA_CONVERGED = "eva/converged_fraction":
        "fraction of the modules whose used components have converged";
    /// EVA's result.
    EVA_MODULES = "eva/modules":
        "a table of every module's rank, explained variance and the cosine of its components with those before (text)";
    /// The distribution of the ranks.
    EVA_RANKS = "eva/ranks":
        "ranks of the modules (histogram)";
    /// A module's components.
    EVA_COMPONENTS = "eva/components/NAME":
        "fraction of a module's variance that each candidate component explains (histogram)";
    /// A module's rank.
    EVA_RANK = "eva/rank/NAME":
        "rank of a module (in metrics.jsonl alone)";
    /// What a module's adapter explains.
    EVA_EXPLAINED_VARIANCE = "eva/explained_variance/NAME":
        "fraction of the variance of a module's inputs that its adapter's components explain (in metrics.jsonl alone)";
    /// How far A has turned.
    ADAPTER_TURN = "adapter/turn/NAME":
        "of a run that `subspaces` has looked at, and of a module or of all (`mean`): degrees between the rows of A and those at the start";
    /// The size of an update.
    ADAPTER_NORM = "adapter/norm/NAME":
        "the same: Frobenius norm of ΔW, what the adapter adds to the weight";
    /// Directions that an update uses.
    ADAPTER_EFFECTIVE_RANK = "adapter/effective_rank/NAME":
        "the same: exponential of the entropy of ΔW's singular values (Roy and Vetterli 2007)";
    /// What an update shares with the data.
    ADAPTER_IN_DATA = "adapter/in_data/NAME":
        "the same: share of ΔW's squared norm within the leading directions, as many as the rank, of the base's activations over the data; rank / width of a random ΔW";
    /// What an update shares with rollouts.
    ADAPTER_IN_ROLLOUTS = "adapter/in_rollouts/NAME":
        "the same, of the adapted policy's activations over episodes that it plays";
    /// How data and rollouts differ.
    ADAPTER_DATA_TO_ROLLOUTS = "adapter/data_to_rollouts/NAME":
        "the same: degrees between the directions of the data and those of the episodes";
    /// The config.
    CONFIG = "config":
        "the config as it ran (text)";
    /// What an initialisation costs.
    INITIALISATION_SECS = "time/initialisation":
        "seconds that the adapters' initialisation took";
}
