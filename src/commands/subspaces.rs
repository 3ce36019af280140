//! `subspaces`: how a run's adapters moved: how far A turned, the rank that the updates use, and what they share with
//! the directions of the activations.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use eva_rl_agents::adapter::site::{ModuleName, Site};
use eva_rl_agents::adapter::{AdapterSet, Lora, Rank, angle_between, effective_rank, share_within};
use eva_rl_agents::adapter_init::eva::{EvaOptions, SolverKind};
use eva_rl_agents::adapter_init::{AdapterMethod, Initialised, TaskData, mean_gradients};
use eva_rl_agents::model::{Conditioning, Inputs, Policy, TransformerPolicy};
use eva_rl_agents::ranks::OneRank;
use eva_rl_envs::VecEnv;
use serde::Serialize;
use tch::{Device, Tensor};

use crate::cli::SubspacesArgs;
use crate::config::{self, RunPlan};
use crate::data::Replay;
use crate::evaluation::Play;
use crate::metrics::{self, Metric, Recorder};
use crate::rollout::{self, ActionSelection};
use crate::run_folder::{Checkpoint, RunDir};
use crate::support::atomic::{refuse_existing, write_folder};
use crate::support::errors::{InputError, OrInput};
use crate::support::seeds::{self, Purpose};
use crate::support::signals;
use crate::support::stdout::{print, print_json};
use crate::support::tables;
use crate::support::threads;
use crate::training::{TaskWindows, TrainInputs, read_inputs, restore_adapters};

/// Batches of the gradient at the start.
const GRADIENT_BATCHES: usize = 8;

/// What is measured of one module at one checkpoint.
#[derive(Clone, Copy, Debug, Serialize)]
struct Measured {
    /// Degrees between A and A at the start.
    turn: f64,
    /// Norm of ΔW, what is added to the module's weight.
    norm: f64,
    /// Singular values of ΔW, counted by their size.
    effective_rank: f64,
    /// Share of ΔW's squared norm within the leading directions of the data's activations.
    in_data: f64,
    /// The same of the activations of the episodes that the policy of this checkpoint plays.
    in_rollouts: f64,
    /// Degrees between both.
    data_to_rollouts: f64,
}

impl Measured {
    /// Each number with what it is called.
    fn numbers(self) -> [(Metric, f64); 6] {
        [
            (metrics::ADAPTER_TURN, self.turn),
            (metrics::ADAPTER_NORM, self.norm),
            (metrics::ADAPTER_EFFECTIVE_RANK, self.effective_rank),
            (metrics::ADAPTER_IN_DATA, self.in_data),
            (metrics::ADAPTER_IN_ROLLOUTS, self.in_rollouts),
            (metrics::ADAPTER_DATA_TO_ROLLOUTS, self.data_to_rollouts),
        ]
    }
}

/// One checkpoint.
#[derive(Debug, Serialize)]
struct Moment {
    updates: usize,
    modules: BTreeMap<String, Measured>,
}

/// Runs `subspaces`.
pub fn run(args: SubspacesArgs) -> anyhow::Result<()> {
    let out = args.out.clone().unwrap_or_else(|| args.run.join("subspaces"));
    refuse_existing(&out)?;
    let run_dir = RunDir::open(&args.run)?;
    let plan = config::load_plan(&run_dir.config(), &[]).or_input()?;
    let Some(lora) = plan.adapter.as_method().lora() else {
        let text = format!(
            "{:?} trains without adapters ({}), expected a run with some",
            args.run,
            plan.adapter.label()
        );
        return Err(InputError(text).into());
    };
    let rank = lora.rank;
    let inputs = read_inputs(&plan, Device::Cpu, args.allow_imports)?;
    let TrainInputs { policy, conditioning, offline, mut env, .. } = inputs;
    threads::for_eva(policy.config(), plan.optimiser.batch_size);
    signals::listen().context("cannot listen for signals")?;
    let sites = policy.sites_named(&lora.target_modules).or_input()?;
    let checkpoints = run_dir.all()?;
    let adapters_of = |checkpoint: &Checkpoint| -> anyhow::Result<AdapterSet> {
        let restored = restore_adapters(&plan, &policy, &checkpoint.tensors).or_input()?;
        Ok(restored.expect("the method has adapters").1)
    };
    let start = match checkpoints.first() {
        Some(first) if first.state.updates == 0 => adapters_of(first)?,
        _ => {
            let text = format!(
                "{:?} has no checkpoint of update 0 to compare with, expected a run without `checkpoint.keep`",
                args.run
            );
            return Err(InputError(text).into());
        }
    };
    let of_data = directions(&policy, &sites, rank, &mut windows(&plan, &conditioning, &offline))?;
    let mut data = windows(&plan, &conditioning, &offline);
    let batches: Vec<Inputs> = (0..GRADIENT_BATCHES).map(|batch| data.sampled_batch(batch)).collect();
    let gradients = mean_gradients(&policy, &sites, &OneRank, batches);
    let caught: BTreeMap<String, f64> = start
        .sites
        .iter()
        .map(|(module, lora)| (module.to_string(), share_within(&gradients[module], &lora.down)))
        .collect();
    let mut moments = Vec::new();
    for checkpoint in &checkpoints {
        signals::check()?;
        let adapters = adapters_of(checkpoint)?;
        let acting = tch::no_grad(|| policy.merged(&adapters));
        let played = play(&plan, &acting, &conditioning, env.as_mut(), usize::from(args.episodes))?;
        let of_rollouts = directions(&acting, &sites, rank, &mut windows(&plan, &conditioning, &played))?;
        let measure = |(module, lora): (&ModuleName, &Lora)| {
            let update = lora.delta();
            let norm = update.detach().norm().double_value(&[]);
            let measured = Measured {
                turn: angle_between(&start.sites[module].down, &lora.down),
                norm,
                effective_rank: effective_rank(&update),
                in_data: share_within(&update, &of_data[module]),
                in_rollouts: share_within(&update, &of_rollouts[module]),
                data_to_rollouts: angle_between(&of_data[module], &of_rollouts[module]),
            };
            (module.to_string(), measured)
        };
        moments.push(Moment {
            updates: checkpoint.state.updates,
            modules: adapters.sites.iter().map(measure).collect(),
        });
    }
    let found = serde_json::json!({ "run": args.run, "rank": rank.get(), "gradient_within_a": caught, "checkpoints": moments });
    write_folder(&out, |folder| {
        std::fs::write(folder.join("subspaces.json"), serde_json::to_string_pretty(&found)? + "\n")?;
        record(folder, &moments)
    })?;
    if args.json {
        return print_json(&found);
    }
    print(&format!(
        "of the loss's gradient at the start, A's rows hold {:.1}% (mean over modules)",
        100.0 * mean(caught.values().copied())
    ))?;
    print(&table(&moments))?;
    print(&format!("means over {} modules; every module's numbers are in {}", caught.len(), out.display()))
}

/// Batches of windows of some episodes, as the run's adapters were initialised from its data.
fn windows<'a>(plan: &RunPlan, conditioning: &'a Conditioning, episodes: &'a Replay) -> TaskWindows<'a> {
    TaskWindows::new(conditioning, episodes, plan.optimiser.batch_size, plan.seed)
}

/// The leading directions of every module's activations, as many as the adapters' rank: `[R, in]` each.
fn directions(
    policy: &TransformerPolicy,
    sites: &[Site],
    rank: Rank,
    data: &mut dyn TaskData,
) -> anyhow::Result<BTreeMap<ModuleName, Tensor>> {
    let options = EvaOptions { rho: 1.0, solver: SolverKind::Gram, ..EvaOptions::new(rank) };
    let initialised = options.initialise(policy, sites, data, &mut |_| ());
    signals::check()?;
    let Initialised { eva, .. } = initialised.or_input()?;
    let found = eva.expect("EVA has a result").components;
    match sites.iter().find(|site| !found.contains_key(&site.module)) {
        None => Ok(found),
        Some(Site { module, .. }) => {
            let text = format!("{module} has no leading directions, expected inputs that vary");
            Err(InputError(text).into())
        }
    }
}

/// Episodes that a policy plays as in the run's evaluations.
fn play(
    plan: &RunPlan,
    acting: &TransformerPolicy,
    conditioning: &Conditioning,
    env: &mut dyn VecEnv,
    episodes: usize,
) -> anyhow::Result<Replay> {
    let policy = Policy::Transformer(tch::no_grad(|| acting.merged(&AdapterSet::default())));
    let play = Play {
        choice: ActionSelection::Greedy(&policy),
        conditioning,
        target_return: conditioning.target_return,
        inference: plan.evaluation.inference.of(acting.config()),
        prompt: None,
        ranks: &OneRank,
    };
    let spec = env.spec().clone();
    let seed = seeds::seed(plan.seed, Purpose::Evaluation, 0);
    let played = rollout::play(env, &mut play.actor(&spec.action), episodes, seed, &OneRank)?;
    let mut replay =
        Replay::new(episodes, spec.observation_width(), spec.action.width()).read_by(conditioning);
    played.episodes.into_iter().for_each(|episode| replay.push(episode));
    Ok(replay)
}

fn mean(numbers: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = numbers.len() as f64;
    numbers.sum::<f64>() / count
}

/// Means over modules of the numbers of one checkpoint.
fn means(moment: &Moment) -> Vec<(Metric, f64)> {
    let all: Vec<_> = moment.modules.values().map(|measured| measured.numbers()).collect();
    (0..all[0].len())
        .map(|number| (all[0][number].0, mean(all.iter().map(|numbers| numbers[number].1))))
        .collect()
}

/// TensorBoard's, of every module and of their means.
fn record(folder: &Path, moments: &[Moment]) -> anyhow::Result<()> {
    let mut recorder = Recorder::create(folder)?;
    for moment in moments {
        for (metric, value) in means(moment) {
            recorder.scalar_of(metric, "mean", moment.updates, value)?;
        }
        for (module, measured) in &moment.modules {
            for (metric, value) in measured.numbers() {
                recorder.scalar_of(metric, module, moment.updates, value)?;
            }
        }
    }
    recorder.flush()
}

/// A line a checkpoint.
fn table(moments: &[Moment]) -> String {
    let head = [
        "update",
        "A turned",
        "norm of ΔW",
        "effective rank",
        "ΔW in data",
        "ΔW in rollouts",
        "data to rollouts",
    ];
    let row = |moment: &Moment| {
        let found: Vec<f64> = means(moment).into_iter().map(|(_, value)| value).collect();
        vec![
            moment.updates.to_string(),
            format!("{:.1}°", found[0]),
            format!("{:.3}", found[1]),
            format!("{:.2}", found[2]),
            format!("{:.1}%", 100.0 * found[3]),
            format!("{:.1}%", 100.0 * found[4]),
            format!("{:.1}°", found[5]),
        ]
    };
    tables::markdown(&head, moments.iter().map(row))
}
