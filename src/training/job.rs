//! The job itself: adapter initialisation, offline updates, and online updates with its own rollouts.

use std::collections::HashMap;

use eva_rl_agents::model::{Conditioning, Inputs, TransformerPolicy};
use eva_rl_envs::ActionSpace;

use super::adapter_init::{TaskWindows, initialise_adapters, restore_adapters};
use super::inputs::TrainInputs;
use super::online;
use super::session::Learner;
use super::session::{Run, RunLog, WindowReader};
use crate::config::{LossConfig, OnlineConfig, OnlineDtConfig, PolicyConfig, RunPlan};
use crate::data::Replay;
use crate::evaluation::{Evaluated, Reproduction};
use crate::metrics::{self, Recorder};
use crate::report::reproduction_text;
use crate::run_folder::model_card::{self, CardFacts};
use crate::run_folder::{Checkpoint, RunDir, RunState};
use crate::support::errors::{OrInput, tell};
use crate::support::ranks;
use crate::support::seeds::{self, Purpose};
use crate::support::signals::{self, Stopped, unless_abandoned};
use crate::support::stdout::{print, print_json};
use crate::support::threads;

/// Batches by whose residuals the actions' standard deviation is initialised.
const INITIAL_STD_BATCHES: usize = 4;

/// The run itself: initialisation, offline updates, and what follows online.
pub fn train(
    plan: &RunPlan,
    inputs: TrainInputs,
    run_dir: &RunDir,
    recorder: &mut Recorder,
    resumed: Option<Checkpoint>,
    json: bool,
) -> anyhow::Result<()> {
    let TrainInputs { policy, conditioning, offline, validation, best_return, tasks, env } = inputs;
    let (count, steps) = (offline.trajectories().count(), offline.steps());
    if let (PolicyConfig::Pretrained { .. }, None) = (&plan.policy, &resumed) {
        tell_reproduction(plan, &policy, &conditioning, &offline, &env.spec().action);
    }
    let adapters = match &resumed {
        Some(checkpoint) => restore_adapters(plan, &policy, &checkpoint.tensors).or_input()?,
        None => {
            let windows = TaskWindows::new(&conditioning, &offline, plan.optimiser.batch_size, plan.seed);
            let begun = initialise_adapters(plan, &policy, windows, run_dir, recorder);
            unless_abandoned(begun)?.ok_or_else(|| Stopped {
                signal: signals::asked().expect("nothing else abandons it"),
                text: format!(
                    "while the adapters were initialised: nothing was trained yet; begin with: eva-rl train --resume {:?}",
                    run_dir.root()
                ),
            })?
        }
    };
    let policy = match &resumed {
        Some(checkpoint) if adapters.is_none() => checkpoint.policy(policy.device())?,
        _ => policy,
    };
    threads::for_passes(policy.config(), plan.optimiser.batch_size);
    let mut learner = Learner::new(policy, adapters, plan);
    let (mut state, mut evaluations, mut saved) = (RunState::default(), Vec::new(), HashMap::new());
    let total = plan.total_updates();
    if resumed.is_none() {
        start_spread(plan, &learner, &conditioning, &offline, recorder)?;
    }
    if let Some(checkpoint) = resumed {
        learner.load_state(&checkpoint.tensors).or_input()?;
        (state, saved) = (checkpoint.state, checkpoint.tensors);
        evaluations = std::mem::take(&mut state.evaluations);
        if evaluations.is_empty() && run_dir.root().join("evaluation.json").exists() {
            // A checkpoint from before they were kept there.
            evaluations = run_dir.evaluations()?;
            evaluations.retain(|evaluated| evaluated.updates <= state.updates);
        }
        tell(&format!("going on from update {} of {total}", state.updates));
    }
    let log = RunLog::new(run_dir, recorder, evaluations, &state, total, ranks::world());
    let reader = WindowReader::new(&learner);
    let mut run = Run {
        plan,
        learner,
        reader,
        conditioning,
        env,
        tasks,
        best_return,
        validation,
        state,
        saved,
        log,
        ranks: ranks::world(),
        stops: false,
    };
    run.learn_what_was_reached();
    run.tell_targets(&offline);

    if offline_updates(&mut run, &offline)? {
        match &plan.online {
            None => {}
            Some(OnlineConfig::Odt(odt)) => online::odt(&mut run, odt, offline)?,
            Some(OnlineConfig::Td3Odt(td3)) => online::td3_odt(&mut run, td3, offline)?,
            Some(OnlineConfig::Grpo(grpo)) => online::grpo(&mut run, grpo)?,
            Some(OnlineConfig::FilteredBc(bc)) => online::filtered_bc(&mut run, bc, offline)?,
        }
    }
    let Run { learner, state, log, .. } = run;
    let facts = CardFacts {
        trajectories: count,
        steps,
        evaluations: &log.evaluations,
        state: &state,
        policy: learner.policy.config(),
        trained: learner.trained_parameters(),
        adapters: learner.folder.is_some(),
    };
    run_dir.write("README.md", &model_card::text(plan, run_dir, &facts))?;
    summarise(run_dir, &log.evaluations, &state, json)
}

/// Dimensions of actions that are listed at the start of a run.
const LISTED: usize = 12;

/// Says how the policy's actions on the data compare with the data's, and warns of conventions that seem to differ.
fn tell_reproduction(
    plan: &RunPlan,
    policy: &TransformerPolicy,
    conditioning: &Conditioning,
    offline: &Replay,
    action: &ActionSpace,
) {
    threads::for_passes(policy.config(), plan.optimiser.batch_size);
    let found = Reproduction::of(policy, conditioning, offline, action);
    reproduction_text(&found, LISTED).lines().for_each(tell);
    for warning in found.warnings() {
        tell(&format!("warning: {warning}"));
    }
}

/// Finds the deviations by which a new run's actions begin to spread, where its config names none.
fn start_spread(
    plan: &RunPlan,
    learner: &Learner,
    conditioning: &Conditioning,
    offline: &Replay,
    recorder: &mut Recorder,
) -> anyhow::Result<()> {
    let LossConfig::OnlineDt(OnlineDtConfig { initial_std: None, .. }) = plan.loss else {
        return Ok(());
    };
    let batches: Vec<Inputs> = (0..INITIAL_STD_BATCHES)
        .map(|batch| {
            let mut draw = seeds::generator(plan.seed, Purpose::InitialStd, batch);
            let windows = offline.sample(plan.optimiser.batch_size, conditioning.context_length, &mut draw);
            conditioning.inputs(&windows.view())
        })
        .collect();
    if let Some(std) = learner.start_spread(&batches) {
        let all: Vec<String> = std.iter().map(|std| format!("{std:.3}")).collect();
        tell(&format!("initial std of the actions, from the policy's residuals: {}", all.join(" ")));
        let mean = f64::from(std.iter().sum::<f32>()) / std.len() as f64;
        recorder.scalar(metrics::ACTION_STD, 0, mean)?;
    }
    Ok(())
}

/// The updates on the offline trajectories; false where the run ends with them.
fn offline_updates(run: &mut Run, offline: &Replay) -> anyhow::Result<bool> {
    loop {
        if run.state.updates >= run.plan.offline.updates && run.plan.online.is_some() {
            return Ok(true);
        }
        if !run.checkpoint_and_evaluate(Vec::new)? {
            return Ok(false);
        }
        let part = run.windows(offline);
        let (inputs, update_loss) = run.loss(&part);
        run.step(&inputs, &update_loss)?;
    }
}

fn summarise(
    run_dir: &RunDir,
    evaluations: &[Evaluated],
    state: &RunState,
    json: bool,
) -> anyhow::Result<()> {
    let (first, last) = (&evaluations[0], &evaluations[evaluations.len() - 1]);
    if json {
        return print_json(&serde_json::json!({
            "run": run_dir.root(), "state": state, "before": first, "after": last,
        }));
    }
    let (first, last) = (&first.targets[0], &last.targets[0]);
    print(&format!("before: {}", first.line()))?;
    print(&format!("after:  {}", last.line()))?;
    let root = run_dir.root().display();
    print(&format!(
        "{} updates and {} environment steps in {:.0} s; the best policy is in {root}/best",
        state.updates, state.env_steps, state.elapsed_secs
    ))?;
    print(&format!("see the curves with: tensorboard --logdir {root}"))
}
