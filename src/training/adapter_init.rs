//! How a run's adapters are initialised: by a method or from a checkpoint.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::Context;
use eva_rl_agents::adapter::site::Site;
use eva_rl_agents::adapter::{AdapterFolder, AdapterSet, LoraOptions, Scaling};
use eva_rl_agents::adapter_init::eva::Progress;
use eva_rl_agents::adapter_init::{InitError, Initialised, TaskData};
use eva_rl_agents::model::{Conditioning, Inputs, Token, TransformerPolicy};
use eva_rl_agents::ranks::Ranks;
use tch::Tensor;

use crate::config::{AdapterConfig, RunPlan};
use crate::data::Replay;
use crate::metrics::{self, Recorder};
use crate::policies::Base;
use crate::report::eva_summary::EvaSummary;
use crate::run_folder::RunDir;
use crate::support::errors::{InputError, OrInput, tell};
use crate::support::ranks;
use crate::support::seeds::{self, Purpose};
use crate::support::signals::{self, Abandoned};
use crate::training::session::ADAPTER_SCALE;

/// What the adapters' folder says, whatever they have learned.
fn folder_facts(plan: &RunPlan, policy: &TransformerPolicy) -> anyhow::Result<AdapterFolder> {
    let base = plan.policy.source().map(|path| Base::of(&path)).transpose()?.unwrap_or_default();
    let method = plan.adapter.as_method();
    Ok(AdapterFolder {
        base: base.name,
        revision: base.revision,
        fingerprint: Some(policy.fingerprint()),
        rank: method.lora().map_or(1, |lora| lora.rank.get()),
        scaling: method.lora().map_or(Scaling { alpha: 1.0, rank_stabilised: false }, LoraOptions::scaling),
        origin: method.origin(),
        fan_in_fan_out: policy.sites().all(|site| site.fan_in_fan_out),
        kernels: policy.kernels(),
    })
}

/// The modules that get adapters.
fn target_sites(plan: &RunPlan, policy: &TransformerPolicy) -> anyhow::Result<Vec<Site>> {
    let lora = plan.adapter.as_method().lora();
    policy.sites_named(lora.map_or(&[], |lora| &lora.target_modules)).or_input()
}

/// Refuses a rank that some module of the policy is too small for.
pub fn check_rank(plan: &RunPlan, policy: &TransformerPolicy) -> anyhow::Result<()> {
    let wanted = plan.adapter.as_method().components();
    for Site { module, input, output, .. } in target_sites(plan, policy)? {
        if wanted > input.min(output) {
            return Err(InputError(format!(
                "{} takes {wanted} components, and {module} maps {input} dimensions to {output}: lower the rank",
                plan.adapter.label()
            ))
            .into());
        }
    }
    Ok(())
}

/// Refuses kinds of tokens that the policy does not have, of which no activation could count.
pub fn check_tokens(method: &AdapterConfig, policy: &TransformerPolicy) -> anyhow::Result<()> {
    let AdapterConfig::Eva(options) = method else { return Ok(()) };
    let known: Vec<Token> = policy.tokens().collect();
    match options.tokens.iter().find(|token| !known.contains(token)) {
        None => Ok(()),
        Some(token) => {
            let word = |tokens| serde_json::to_string(tokens).expect("tokens can be written as JSON");
            let (token, known) = (word(std::slice::from_ref(token)), word(&known));
            Err(InputError(format!("EVA's `tokens` holds {token}, expected some of the policy's, {known}"))
                .into())
        }
    }
}

/// The task's trajectories, as adapter initialisation looks at them.
pub struct TaskWindows<'a> {
    /// How the policy reads its environment.
    pub conditioning: &'a Conditioning,
    /// The trajectories.
    pub data: &'a Replay,
    /// Windows per batch.
    pub batch_size: usize,
    /// Decides the windows.
    pub seed: u64,
    /// Those that share the work.
    pub ranks: &'static dyn Ranks,
    /// The pass that `order` is of.
    pass: Option<usize>,
    /// Where the windows of a pass start.
    order: Vec<usize>,
}

impl<'a> TaskWindows<'a> {
    /// Batches of so many windows, decided by the seed.
    pub fn new(conditioning: &'a Conditioning, data: &'a Replay, batch_size: usize, seed: u64) -> Self {
        Self { conditioning, data, batch_size, seed, ranks: ranks::world(), pass: None, order: Vec::new() }
    }
}

impl TaskData for TaskWindows<'_> {
    fn batches_per_pass(&self) -> usize {
        self.data.steps_of_a_pass().div_ceil(self.batch_size)
    }

    fn batch_of_pass(&mut self, pass: usize, batch: usize) -> Inputs {
        if self.pass.replace(pass) != Some(pass) {
            self.order = self.data.pass(&mut seeds::generator(self.seed, Purpose::EvaWindows, pass));
        }
        let starts = self.order.chunks(self.batch_size).nth(batch).expect("a pass has so many batches");
        self.conditioning.inputs(&self.data.windows(starts, self.conditioning.context_length).view())
    }

    fn sampled_batch(&mut self, batch: usize) -> Inputs {
        let mut windows_rng = seeds::generator(self.seed, Purpose::EvaWindows, batch);
        let windows = self.data.sample(self.batch_size, self.conditioning.context_length, &mut windows_rng);
        self.conditioning.inputs(&windows.view())
    }

    fn ranks(&self) -> &'static dyn Ranks {
        self.ranks
    }

    fn is_interrupted(&self) -> bool {
        self.ranks.any(signals::asked().is_some())
    }
}

/// Adapters as the config's method initialises them; nothing in full fine-tuning. Abandoned where the run is to stop.
pub fn initialise_adapters(
    plan: &RunPlan,
    policy: &TransformerPolicy,
    mut data: TaskWindows,
    run_dir: &RunDir,
    recorder: &mut Recorder,
) -> anyhow::Result<Option<(AdapterFolder, AdapterSet)>> {
    let (begun, ranks) = (Instant::now(), data.ranks);
    let before = ranks.traffic();
    seeds::seed_torch(plan.seed, Purpose::Weights, 1);
    let sites = target_sites(plan, policy)?;
    let mut recorded = Ok(());
    let mut progress = |now: Progress| {
        if recorded.is_ok() {
            recorded = recorder.scalar(metrics::EVA_CONVERGED, now.batches, now.converged_fraction);
        }
    };
    let initialised = plan.adapter.as_method().initialise(policy, &sites, &mut data, &mut progress);
    if let Err(InitError::Interrupted) = initialised {
        return Err(Abandoned.into());
    }
    let Initialised { adapters, eva } = initialised.or_input()?;
    recorded?;
    let Some(mut adapters) = adapters else { return Ok(None) };
    if let Some(eva) = eva {
        recorder.sites(&eva.sites)?;
        if run_dir.is_written_here() {
            EvaSummary::new(&eva).write(run_dir.root())?;
        }
        tell(&format!("EVA: {eva}, {:.1} s", begun.elapsed().as_secs_f64()));
    }
    if let Some(lora) = plan.adapter.as_method().lora() {
        adapters.dropout = lora.dropout;
        if lora.dora {
            policy.init_dora(&mut adapters);
        }
    }
    for name in &policy.config().new_tensors {
        let tensor = policy.weights()[name].detach().copy().set_requires_grad(true); // […]
        adapters.replaced.insert(name.clone(), tensor);
    }
    recorder.scalar(metrics::INITIALISATION_SECS, 0, begun.elapsed().as_secs_f64())?;
    if !ranks.is_alone() {
        let bytes = ranks.traffic().bytes - before.bytes;
        recorder.scalar(metrics::COMMUNICATED_BYTES, 0, bytes as f64)?;
    }
    Ok(Some((folder_facts(plan, policy)?, adapters)))
}

/// Adapters as a checkpoint has them; nothing in full fine-tuning.
pub fn restore_adapters(
    plan: &RunPlan,
    policy: &TransformerPolicy,
    tensors: &HashMap<String, Tensor>,
) -> anyhow::Result<Option<(AdapterFolder, AdapterSet)>> {
    if matches!(plan.adapter, AdapterConfig::FullFineTuning(_)) {
        return Ok(None);
    }
    let scale = tensors.get(ADAPTER_SCALE).context("the checkpoint lacks the adapters' scale")?;
    let scale = f64::from_bits(scale.int64_value(&[]).cast_unsigned());
    let dropout = plan.adapter.as_method().lora().map_or(0.0, |lora| lora.dropout);
    let adapters = AdapterSet::from_state(tensors, scale, dropout, policy.device())?;
    Ok(Some((folder_facts(plan, policy)?, adapters)))
}
