//! Evaluations of a run: their episodes, the validation loss, the best so far, and pictures.

use eva_rl_agents::model::Policy;
use eva_rl_agents::ranks::OneRank;

use super::Run;
use crate::evaluation::video;
use crate::evaluation::{Evaluated, Play, evaluate, evaluate_tasks};
use crate::support::errors::tell;
use crate::support::seeds::{self, Purpose};
use crate::support::signals::{self, Abandoned, unless_abandoned};

/// Batches of a validation loss.
const VALIDATION_BATCHES: usize = 20;

impl Run<'_> {
    /// Plays the evaluation's episodes, and keeps what was trained if it is the best so far; false where that was
    /// abandoned.
    pub(super) fn evaluate(&mut self) -> anyhow::Result<bool> {
        let updates = self.state.updates;
        let acting = Policy::Transformer(self.learner.acting());
        let seed = seeds::seed(self.plan.seed, Purpose::Evaluation, 0);
        let (episodes, targets) = (self.plan.evaluation.episodes, self.evaluation_targets());
        let inference = self.of_policy(self.plan.evaluation.inference);
        let choice = self.plan.evaluation.actions.of(&acting)?;
        let (conditioning, env) = (&self.conditioning, self.env.as_mut());
        let play = Play {
            choice,
            conditioning,
            target_return: targets[0],
            inference,
            prompt: None,
            ranks: self.ranks,
        };
        let played = if self.plan.evaluation.on_datasets {
            evaluate_tasks(play, env, self.plan, &self.tasks, seed).map(|(all, tasks)| (vec![all], tasks))
        } else {
            evaluate(play, env, episodes, &targets, seed).map(|targets| (targets, Vec::new()))
        };
        let validated = played.and_then(|played| Ok((played, self.validation_loss()?)));
        let Some(((targets, tasks), validation_loss)) = unless_abandoned(validated)? else {
            self.stops = true;
            return Ok(false);
        };
        let evaluated =
            Evaluated { updates, env_steps: self.state.env_steps, targets, tasks, validation_loss };
        let at = self.place();
        self.log.recorder.evaluation(at, &evaluated)?;
        let found = &evaluated.targets[0];
        tell(&format!("update {updates:>6}: {}", found.line()));
        let run_dir = self.log.run_dir;
        if self.state.best.is_none_or(|best| found.mean_return > best) {
            self.state.best = Some(found.mean_return);
            run_dir.save_best(|folder| self.learner.write(folder))?;
        }
        self.log.evaluations.push(evaluated);
        let text = serde_json::to_string_pretty(&self.log.evaluations)? + "\n";
        run_dir.write("evaluation.json", &text)?;
        Ok(true)
    }

    /// The mean loss over windows of the validation episodes, the same ones each time.
    fn validation_loss(&mut self) -> anyhow::Result<Option<f64>> {
        if self.validation.steps() == 0 {
            return Ok(None);
        }
        let mut sum = [0.0];
        let mut stopped = Ok(());
        for batch in (self.ranks.rank()..VALIDATION_BATCHES).step_by(self.ranks.size()) {
            stopped = stopped.and(signals::check());
            if stopped.is_err() {
                break;
            }
            let mut draw = seeds::generator(self.plan.seed, Purpose::Validation, batch);
            seeds::seed_torch(self.plan.seed, Purpose::Validation, batch);
            let (size, steps) = (self.plan.optimiser.batch_size, self.conditioning.context_length);
            let windows = self.validation.sample(size, steps, &mut draw);
            let inputs = self.inputs(&windows);
            sum[0] += self.learner.validation_loss(&inputs);
        }
        if self.ranks.any(stopped.is_err()) {
            return Err(Abandoned.into());
        }
        self.ranks.sum_f64(&mut sum);
        Ok(Some(sum[0] / VALIDATION_BATCHES as f64))
    }

    /// Whether the best evaluation lies as many evaluations back as the plan has patience for.
    pub(super) fn out_of_patience(&self) -> bool {
        let Some(patience) = self.plan.evaluation.patience else { return false };
        let returns = self.log.evaluations.iter().map(|found| found.targets[0].mean_return);
        let mut best = (0, f64::NEG_INFINITY);
        for (index, found) in returns.enumerate() {
            if found > best.1 {
                best = (index, found);
            }
        }
        self.log.evaluations.len() > best.0 + patience
    }

    /// Videos the first episode of the evaluation that was made now, for TensorBoard and for a GIF in the run's
    /// folder. A run does not fail for want of a picture.
    pub(super) fn record_video(&mut self, name: &str) -> anyhow::Result<()> {
        let (id, kwargs) = match self.tasks.first() {
            Some(task) => (&task.env, &task.kwargs),
            None => (&self.plan.env.id, &self.plan.env.kwargs),
        };
        let bridge = self.plan.env.bridge(self.conditioning.image_shape().is_some());
        let seed = seeds::seed(self.plan.seed, Purpose::Evaluation, 0);
        let acting = Policy::Transformer(self.learner.acting());
        let video = video::drawable(id, kwargs, &bridge).map_err(anyhow::Error::from).and_then(|env| {
            let space = env.spec().action.clone();
            let task = self.tasks.first().map(|task| task.target_return);
            let choice = self.plan.evaluation.actions.of(&acting).expect("it was checked with the policy");
            let play = Play {
                choice,
                conditioning: &self.conditioning,
                target_return: task.unwrap_or_else(|| self.evaluation_targets()[0]),
                inference: self.of_policy(self.plan.evaluation.inference),
                prompt: None,
                ranks: &OneRank,
            };
            video::record(env, &mut play.actor(&space), seed)
        });
        let path = self.log.run_dir.root().join(format!("{name}.gif"));
        match video.and_then(|video| video.write(&path).map(|()| video)) {
            Ok(video) => self.log.recorder.video(self.state.updates, &video),
            Err(error) => {
                tell(&format!("no video of update {}: {error:#}", self.state.updates));
                Ok(())
            }
        }
    }
}
