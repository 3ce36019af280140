//! What the episodes of an evaluation say together.

use std::path::Path;
use std::sync::Arc;

use eva_rl_agents::model::Conditioning;
use eva_rl_agents::ranks::Ranks;
use eva_rl_envs::{ActionSpace, EnvSpec, Kwargs, Phase, ReferenceScores, Success, VecEnv};
use serde::{Deserialize, Serialize};

use crate::config::RunPlan;
use crate::data::Outcome;
use crate::rollout::{self, ActionSelection, Actions, Inference, PolicyActor, Prompt, RolloutResult};
use crate::support::errors::InputError;

/// Episodes played with one target return.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The return that the policy was conditioned on, in the environment's units; absent where no policy played,
    /// or several tasks' were.
    pub target_return: Option<f32>,
    /// The cap on the returns-to-go that it was conditioned on, where the user wanted one.
    #[serde(default)]
    pub max_return_to_go: Option<f32>,
    /// What the policy computed at a step; absent where no policy played.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inference: Option<Inference>,
    /// How its actions were chosen, where they were not the most likely ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<Actions>,
    /// Episodes.
    pub episodes: usize,
    /// Episodes that a worker's failure cut short; they were played again, and count nowhere else.
    #[serde(default)]
    pub lost_episodes: usize,
    /// Mean undiscounted return.
    pub mean_return: f64,
    /// Standard deviation of the returns over episodes.
    pub std_return: f64,
    /// 95% interval of the mean return, by the normal approximation.
    pub interval: [f64; 2],
    /// Mean steps of an episode.
    pub mean_length: f64,
    /// Share of episodes that succeeded, where the task knows success.
    pub success_rate: Option<f64>,
    /// 100 · (mean − random) / (expert − random), where the task has reference returns.
    pub normalized_score: Option<f64>,
    /// Those returns; absent where several tasks' scores were averaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_scores: Option<ReferenceScores>,
}

/// An evaluation and the update after which it was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Updates done.
    pub updates: usize,
    /// Environment steps of exploration done.
    #[serde(default)]
    pub env_steps: usize,
    /// One entry per target return; where several tasks were played, one of all their episodes.
    pub targets: Vec<Evaluation>,
    /// One entry per task, where the datasets' own environments were played.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskEvaluation>,
    /// Mean of the loss over windows of the validation episodes, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
}

/// Every evaluation of a run, each with at least one target.
pub fn read(path: &Path) -> anyhow::Result<Vec<Evaluated>> {
    let text = eva_rl_agents::read_text(path)
        .map_err(|error| InputError(format!("cannot read {path:?}: {error}")))?;
    let evaluations: Vec<Evaluated> = serde_json::from_str(&text).map_err(|error| {
        let reason = eva_rl_agents::in_words(&error);
        InputError(format!("{path:?} is no list of evaluations: {reason}"))
    })?;
    match evaluations.iter().find(|evaluated| evaluated.targets.is_empty()) {
        None => Ok(evaluations),
        Some(evaluated) => {
            let text =
                format!("{path:?} has no target for update {}, expected at least one", evaluated.updates);
            Err(InputError(text).into())
        }
    }
}

/// The episodes of one task among several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskEvaluation {
    /// The environment's id.
    pub env: String,
    /// Its options.
    pub kwargs: Kwargs,
    /// What its episodes say.
    pub found: Evaluation,
}

/// How a policy plays.
#[derive(Clone, Copy, Debug)]
pub struct Play<'a> {
    /// How its actions are chosen.
    pub choice: ActionSelection<'a>,
    /// How it reads the environment.
    pub conditioning: &'a Conditioning,
    /// The return that it is conditioned on, in the environment's units.
    pub target_return: f32,
    /// What it computes at a step.
    pub inference: Inference,
    /// Demonstrations that it sees before everything else.
    pub prompt: Option<&'a Arc<Prompt>>,
    /// Those that share the episodes.
    pub ranks: &'static dyn Ranks,
}

impl<'a> Play<'a> {
    /// The policy in environments of these actions.
    pub fn actor(&self, space: &ActionSpace) -> PolicyActor<'a> {
        PolicyActor::new(self.choice, self.conditioning, self.target_return, space, self.inference)
            .after(self.prompt)
    }
}

/// A dataset's environment, and the best return that the dataset has of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The environment's id.
    pub env: String,
    /// Its options.
    pub kwargs: Kwargs,
    /// In the environment's units.
    pub target_return: f32,
}

impl Evaluation {
    /// Sums up what was played, at least one episode.
    pub fn of(played: &RolloutResult, spec: &EnvSpec) -> Self {
        Self::of_outcomes(&played.outcomes, played.lost, spec)
    }

    /// Sums up what episodes came to, of which there is at least one, and how many were lost.
    pub fn of_outcomes(episodes: &[Outcome], lost: usize, spec: &EnvSpec) -> Self {
        let count = episodes.len() as f64;
        let mean = episodes.iter().map(|episode| episode.total_return).sum::<f64>() / count;
        let squares: f64 = episodes.iter().map(|episode| (episode.total_return - mean).powi(2)).sum();
        let std = if episodes.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
        let half = 1.96 * std / count.sqrt();
        let fraction = |succeeds: fn(&Outcome) -> bool| {
            Some(episodes.iter().filter(|episode| succeeds(episode)).count() as f64 / count)
        };
        Self {
            target_return: None,
            max_return_to_go: None,
            inference: None,
            actions: None,
            episodes: episodes.len(),
            lost_episodes: lost,
            mean_return: mean,
            std_return: std,
            interval: [mean - half, mean + half],
            mean_length: episodes.iter().map(|episode| episode.steps as f64).sum::<f64>() / count,
            success_rate: match spec.success {
                Success::Undefined => None,
                Success::Terminated => fraction(|episode| episode.end == Phase::Terminated),
                Success::Truncated => fraction(|episode| episode.end == Phase::Truncated),
                Success::Info { .. } => fraction(|episode| episode.succeeded == Some(true))
                    .filter(|_| episodes.iter().any(|episode| episode.succeeded.is_some())),
            },
            normalized_score: spec.reference.map(|reference| reference.normalized(mean)),
            reference_scores: spec.reference,
        }
    }

    /// The same of what a policy played.
    pub fn of_policy(played: &RolloutResult, spec: &EnvSpec, play: &Play) -> Self {
        Self::of(played, spec).by(play)
    }

    /// The same, said of how a policy played.
    pub fn by(self, play: &Play) -> Self {
        Self {
            target_return: play.conditioning.reads_returns.then_some(play.target_return),
            max_return_to_go: play.conditioning.return_cap,
            inference: Some(play.inference),
            actions: matches!(play.choice, ActionSelection::ByLogits(_)).then_some(Actions::Sampled),
            ..self
        }
    }

    /// The episodes of several tasks together; success and score are means over tasks.
    fn over(outcomes: &[Outcome], tasks: &[TaskEvaluation], spec: &EnvSpec) -> Self {
        let mean = |of: fn(&Evaluation) -> Option<f64>| {
            let each: Option<Vec<f64>> = tasks.iter().map(|task| of(&task.found)).collect();
            each.map(|each| each.iter().sum::<f64>() / each.len() as f64)
        };
        let lost = tasks.iter().map(|task| task.found.lost_episodes).sum();
        Self {
            success_rate: mean(|found| found.success_rate),
            normalized_score: mean(|found| found.normalized_score),
            reference_scores: None,
            inference: tasks.first().and_then(|task| task.found.inference),
            actions: tasks.first().and_then(|task| task.found.actions),
            ..Self::of_outcomes(outcomes, lost, spec)
        }
    }

    /// Scores the mean return by other returns of random play and of an expert, or by none.
    pub fn score_by(&mut self, reference: Option<ReferenceScores>) {
        self.normalized_score = reference.map(|reference| reference.normalized(self.mean_return));
        self.reference_scores = reference;
    }

    /// How a policy played, for people: `target return -150, window inference`.
    pub fn setting(&self) -> String {
        let mut parts = Vec::new();
        if let Some(target) = self.target_return {
            parts.push(format!("target return {target}"));
        }
        parts.extend(self.max_return_to_go.map(|cap| format!("returns-to-go capped at {cap}")));
        parts.extend(self.inference.map(|inference| format!("{inference} inference")));
        parts.extend(self.actions.map(|_| "sampled actions".to_owned()));
        parts.join(", ")
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let mut line = format!("return {:.1}", self.mean_return);
        if self.episodes > 1 {
            let [low, high] = self.interval;
            line += &format!(" ± {:.1} (95% {low:.1} to {high:.1})", self.std_return);
        }
        let noun = if self.episodes == 1 { "episode" } else { "episodes" };
        line += &format!(" over {} {noun} of {:.0} steps", self.episodes, self.mean_length);
        if let Some(rate) = self.success_rate {
            line += &format!(", success {:.0}%", 100.0 * rate);
        }
        match (self.normalized_score, self.reference_scores) {
            (Some(score), Some(reference)) => {
                line += &format!(", {} {score:.1} ({reference})", reference.score_name());
            }
            (Some(score), None) => line += &format!(", normalised score {score:.1}"),
            (None, _) => {}
        }
        if self.lost_episodes > 0 {
            line += &format!("; {} more were lost to failing workers", self.lost_episodes);
        }
        line
    }
}

/// Plays the same `episodes` for each target return, instead of that of `play`.
pub fn evaluate(
    play: Play,
    env: &mut dyn VecEnv,
    episodes: usize,
    target_returns: &[f32],
    seed: u64,
) -> anyhow::Result<Vec<Evaluation>> {
    let spec = env.spec().clone();
    let mut evaluations = Vec::with_capacity(target_returns.len());
    for &target_return in target_returns {
        let play = Play { target_return, ..play };
        let played = rollout::play(env, &mut play.actor(&spec.action), episodes, seed, play.ranks)?;
        evaluations.push(Evaluation::of_policy(&played, &spec, &play));
    }
    Ok(evaluations)
}

/// Plays the same `episodes` of each task with its own target return: all tasks together, and each.
///
/// `env` is the plan's own environment, and serves the tasks that are the same; the others' are made for this
/// and closed again.
pub fn evaluate_tasks(
    play: Play,
    env: &mut dyn VecEnv,
    plan: &RunPlan,
    tasks: &[Task],
    seed: u64,
) -> anyhow::Result<(Evaluation, Vec<TaskEvaluation>)> {
    let (own, episodes) = (&plan.env, plan.evaluation.episodes);
    let (mut all, mut found) = (Vec::new(), Vec::new());
    let images = play.conditioning.image_shape().is_some();
    for &Task { env: ref id, ref kwargs, target_return } in tasks {
        let mut made;
        let env = if (id, kwargs) == (&own.id, &own.kwargs) {
            &mut *env
        } else {
            made = rollout::make_part(play.ranks, id, kwargs, own.num_envs, &own.bridge(images))?;
            made.as_mut()
        };
        let spec = env.spec().clone();
        let play = Play { target_return, ..play };
        let played = rollout::play(env, &mut play.actor(&spec.action), episodes, seed, play.ranks)?;
        let evaluation = Evaluation::of_policy(&played, &spec, &play);
        found.push(TaskEvaluation { env: id.clone(), kwargs: kwargs.clone(), found: evaluation });
        all.extend(played.outcomes);
    }
    Ok((Evaluation::over(&all, &found, env.spec()), found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Images, Trajectory};

    fn episode(rewards: &[f32], end: Phase) -> Trajectory {
        Trajectory {
            observations: Vec::new().into(),
            images: Images::default(),
            actions: Vec::new().into(),
            rewards: rewards.to_vec(),
            end,
            infos: Vec::new(),
            succeeded: None,
        }
    }

    fn sum_up(episodes: Vec<Trajectory>, spec: &EnvSpec) -> Evaluation {
        let outcomes: Vec<Outcome> = episodes.iter().map(Trajectory::outcome).collect();
        Evaluation::of_outcomes(&outcomes, 0, spec)
    }

    #[test]
    fn episodes_are_summed_up() {
        let spec = eva_rl_envs::spec("CartPole-v1", &Kwargs::new()).unwrap();
        let episodes = vec![episode(&[1.0; 10], Phase::Terminated), episode(&[1.0; 30], Phase::Truncated)];
        let found = sum_up(episodes, &spec);
        assert_eq!((found.mean_return, found.mean_length, found.success_rate), (20.0, 20.0, Some(0.5)));
        assert!((found.std_return - 200f64.sqrt()).abs() < 1e-9);
    }

    #[test]
    fn of_several_tasks_success_is_the_mean() {
        let spec = eva_rl_envs::spec("CartPole-v1", &Kwargs::new()).unwrap();
        let (fails, lasts) = (episode(&[1.0; 10], Phase::Terminated), episode(&[1.0; 30], Phase::Truncated));
        let task = |episodes: &[Trajectory]| TaskEvaluation {
            env: spec.id.clone(),
            kwargs: Kwargs::new(),
            found: sum_up(episodes.to_vec(), &spec),
        };
        let tasks = [task(&[fails.clone(), lasts.clone()]), task(&[lasts.clone(), lasts.clone()])];
        let all = [fails, lasts.clone(), lasts.clone(), lasts].map(|episode| episode.outcome());
        let all = Evaluation::over(&all, &tasks, &spec);
        assert_eq!((all.success_rate, all.mean_return, all.episodes), (Some(0.75), 25.0, 4));
    }

    #[test]
    fn one_episode_has_no_spread() {
        let spec = eva_rl_envs::spec("Pendulum-v1", &Kwargs::new()).unwrap();
        let found = sum_up(vec![episode(&[-5.0], Phase::Truncated)], &spec);
        assert_eq!((found.std_return, found.interval, found.success_rate), (0.0, [-5.0, -5.0], None));
        assert!(found.line().starts_with("return -5.0 over 1 episode of "), "{}", found.line());
    }

    #[test]
    fn success_may_be_what_the_infos_said() {
        let mut spec = eva_rl_envs::spec("Pendulum-v1", &Kwargs::new()).unwrap();
        spec.infos = vec!["success".to_owned()];
        spec.success = Success::Info { column: 0 };
        let mut episodes = vec![episode(&[1.0], Phase::Truncated); 4];
        assert_eq!(sum_up(episodes.clone(), &spec).success_rate, None, "nobody said");
        episodes[2].succeeded = Some(true);
        assert_eq!(sum_up(episodes, &spec).success_rate, Some(0.25));
    }
}
