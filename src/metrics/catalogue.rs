//! The numbers, each with its tag and its meaning.

/// A number that a run reports, and what it means. Its axis is the run's updates; in a run that explores, what
/// episodes came to is written over environment steps too.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// TensorBoard's name, Stable-Baselines3's where it has one.
    pub tag: &'static str,
    /// What the number is.
    pub meaning: &'static str,
}

/// Return of an exploration.
pub const ROLLOUT_RETURN: Metric =
    Metric { tag: "rollout/ep_rew_mean", meaning: "mean undiscounted return of the episodes of a round" };
/// Length of an exploration.
pub const ROLLOUT_LENGTH: Metric =
    Metric { tag: "rollout/ep_len_mean", meaning: "mean steps of the episodes of a round" };
/// Success of an exploration.
pub const ROLLOUT_SUCCESS: Metric =
    Metric { tag: "rollout/success_rate", meaning: "fraction of a round's episodes that succeeded" };
/// What failing workers cost an exploration.
pub const ROLLOUT_LOST: Metric = Metric {
    tag: "rollout/lost_episodes",
    meaning: "episodes of a round that a worker's failure cut short, and that were played anew; absent if none",
};
/// Return of an evaluation.
pub const EVAL_RETURN: Metric = Metric {
    tag: "eval/mean_reward",
    meaning: "mean undiscounted return, conditioned on the first target return",
};
/// Spread of an evaluation.
pub const EVAL_STD: Metric = Metric {
    tag: "eval/std_reward",
    meaning: "standard deviation of the undiscounted returns over the evaluation's episodes",
};
/// Length of an evaluation.
pub const EVAL_LENGTH: Metric =
    Metric { tag: "eval/mean_ep_length", meaning: "mean steps of an evaluation's episodes" };
/// Success of an evaluation.
pub const EVAL_SUCCESS: Metric =
    Metric { tag: "eval/success_rate", meaning: "fraction of an evaluation's episodes that succeeded" };
/// Score of an evaluation.
pub const EVAL_SCORE: Metric = Metric {
    tag: "eval/normalized_score",
    meaning: "100 · (mean return − random) / (expert − random), by the environment's reference returns",
};
/// Loss of an evaluation.
pub const EVAL_LOSS: Metric =
    Metric { tag: "eval/loss", meaning: "mean of the loss over windows of the validation episodes" };
/// A video of an evaluation.
pub const EVAL_VIDEO: Metric = Metric {
    tag: "eval/episode",
    meaning: "the first episode of the first and of the last evaluation, in 200 frames at most",
};
/// Speed of exploration.
pub const FPS: Metric = Metric { tag: "time/fps", meaning: "environment steps a second of exploration" };
/// Steps of exploration.
pub const TIMESTEPS: Metric =
    Metric { tag: "time/total_timesteps", meaning: "environment steps of exploration so far" };
/// The loss.
pub const LOSS: Metric = Metric { tag: "train/loss", meaning: "mean of the loss since the last record" };
/// The learning rate.
pub const LEARNING_RATE: Metric = Metric { tag: "train/learning_rate", meaning: "of the last update" };
/// Gradient.
pub const GRAD_NORM: Metric =
    Metric { tag: "train/grad_norm", meaning: "joint L2 norm of the gradients before clipping, last update" };
/// Likelihood.
pub const LOG_LIKELIHOOD: Metric = Metric {
    tag: "train/log_likelihood",
    meaning: "mean log-likelihood of the recorded actions, last update: a log-density between the bounds, a log-probability at them",
};
/// Entropy.
pub const ENTROPY: Metric = Metric {
    tag: "train/entropy",
    meaning: "mean entropy of the actions, last update; what lies at the bounds counts as one action",
};
/// What the likelihood takes for being at a bound.
pub const SATURATED_FRACTION: Metric = Metric {
    tag: "train/saturated_fraction",
    meaning: "fraction of a batch's recorded action numbers that lie at their bounds, last update",
};
/// How far drawn actions spread.
pub const ACTION_STD: Metric = Metric {
    tag: "train/action_std",
    meaning: "mean deviation of the actions before they are clipped, in half ranges, last update; at update 0 the start",
};
/// Temperature.
pub const TEMPERATURE: Metric =
    Metric { tag: "train/temperature", meaning: "weight of the entropy, last update" };
/// What the critics do not explain.
pub const CRITIC_LOSS: Metric = Metric {
    tag: "train/critic_loss",
    meaning: "mean squared error of both critics, of returns divided by the policy's return scale, last update",
};
/// What the critics think of the policy.
pub const CRITIC_VALUE: Metric = Metric {
    tag: "train/critic_value",
    meaning: "mean of the first critic over the policy's actions, in the environment's units, last update",
};
/// How far a policy gradient has gone.
pub const CLIP_FRACTION: Metric = Metric {
    tag: "train/clip_fraction",
    meaning: "fraction of a batch's sub-trajectories whose likelihood ratio lies outside the clip, last update",
};
/// EVA's convergence; its axis is EVA's batches.
pub const EVA_CONVERGED: Metric = Metric {
    tag: "eva/converged_fraction",
    meaning: "fraction of the modules whose used components have converged",
};
/// What a start costs.
pub const INITIALISATION_SECS: Metric =
    Metric { tag: "time/initialisation", meaning: "seconds that the adapters' start took" };
