//! Where a run starts: a new policy's config, and adapters as random LoRA, EVA or a checkpoint has them.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use eva_rl_agents::adapter::{self, AdapterFolder, AdapterSet, Origin, Scaling, fingerprint};
use eva_rl_agents::eva::{self, Eva, Found, Progress, Settings};
use eva_rl_agents::model::{ActionKind, Conditioning, DecisionTransformer, PolicyConfig as HfConfig};
use eva_rl_agents::site::{Site, Token};
use eva_rl_envs::ActionSpace;
use rand::seq::SliceRandom;

use crate::agent;
use crate::config::{ActionHeadConfig, AdapterConfig, LoraConfig, NewPolicyConfig, PolicyConfig, RunPlan};
use crate::data::{Dataset, Replay};
use crate::failure::{OrInput, tell};
use crate::metrics::{self, Recorder};
use crate::rng::{self, Purpose};

/// The config of a new policy, normalised by its data.
pub fn new_policy(new: &NewPolicyConfig, dataset: &Dataset) -> HfConfig {
    let (mean, deviation) = dataset.observation_moments();
    let (act_dim, action_kind, low, high) = match &dataset.action {
        ActionSpace::Discrete { n } => (*n, ActionKind::Discrete, None, None),
        ActionSpace::Box { low, high } => {
            let kind = match new.action_head {
                ActionHeadConfig::Continuous {} => ActionKind::Continuous,
                ActionHeadConfig::Binned { .. } => ActionKind::Binned,
            };
            (low.len(), kind, Some(low.clone()), Some(high.clone()))
        }
    };
    let action_bins = match new.action_head {
        ActionHeadConfig::Binned { bins } if action_kind == ActionKind::Binned => Some(bins),
        _ => None,
    };
    let mut config = HfConfig {
        state_dim: dataset.observation_width as i64,
        act_dim: act_dim as i64,
        hidden_size: new.hidden_size,
        max_ep_len: new.max_episode_length,
        action_tanh: action_kind == ActionKind::Continuous,
        n_positions: new.tokens.len() as i64 * new.context_length,
        activation_function: new.activation,
        action_bins,
        token_order: new.tokens.clone(),
        global_positions: new.global_positions,
        n_layer: new.layers,
        n_head: new.heads,
        resid_pdrop: new.dropout,
        embd_pdrop: new.dropout,
        attn_pdrop: new.dropout,
        action_kind,
        context_length: Some(new.context_length),
        state_mean: Some(mean),
        state_std: Some(deviation),
        return_scale: Some(new.return_scale),
        target_return: Some(new.target_return),
        max_return_to_go: dataset.max_return_to_go(),
        action_low: low,
        action_high: high,
        ..HfConfig::default()
    };
    config.model_type = config.own_model_type().to_owned();
    if config.model_type != HfConfig::default().model_type {
        config.other.remove("architectures"); // transformers has no class for it
    }
    config
}

/// Adapters as the config wants them at the start; nothing in full fine-tuning.
pub fn initialise_adapters(
    plan: &RunPlan,
    policy: &DecisionTransformer,
    conditioning: &Conditioning,
    offline: &Replay,
    recorder: &mut Recorder,
) -> anyhow::Result<Option<(AdapterFolder, AdapterSet)>> {
    let base = match &plan.policy {
        PolicyConfig::Pretrained { path, .. } => path.display().to_string(),
        PolicyConfig::New(_) => String::new(),
    };
    let folder = |lora: &LoraConfig, origin| AdapterFolder {
        base: base.clone(),
        fingerprint: Some(fingerprint(policy.weights())),
        rank: lora.rank.get(),
        scaling: scaling(lora),
        origin,
    };
    match &plan.adapter {
        AdapterConfig::FullFineTuning {} => Ok(None),
        AdapterConfig::Lora(lora) => {
            rng::seed_torch(plan.seed, Purpose::Weights, 1);
            let mut adapters = AdapterSet { dropout: lora.dropout, ..AdapterSet::default() };
            for site in policy.sites() {
                let (input, output) = policy.site_shape(site).expect("a site of this policy");
                let adapter = adapter::lora(input, output, lora.rank, scaling(lora), policy.device());
                adapters.sites.insert(site, adapter);
            }
            Ok(Some((folder(lora, Origin::Lora), dora(lora, policy, adapters))))
        }
        AdapterConfig::Eva(eva) => {
            let begun = Instant::now();
            rng::seed_torch(plan.seed, Purpose::Weights, 1);
            let search = Search {
                settings: eva.settings(),
                sites: &policy.sites(),
                tokens: &eva.tokens,
                batch_size: plan.optimiser.batch_size,
                max_batches: eva.max_batches,
                seed: plan.seed,
            };
            let each =
                |batch, progress: Progress| recorder.scalar(metrics::EVA_SETTLED, batch, progress.settled);
            let (found, outcome) = search.run(policy, conditioning, offline, each)?;
            recorder.sites(&found.reports)?;
            tell(&format!("EVA: {outcome}, {:.1} s", begun.elapsed().as_secs_f64()));
            let scale = scaling(&eva.lora).scale(eva.lora.rank.get());
            let adapters = eva::adapters(&found, policy, scale, eva.lora.dropout);
            let origin = Origin::Eva { rho: eva.rho, tau: eva.tau };
            Ok(Some((folder(&eva.lora, origin), dora(&eva.lora, policy, adapters))))
        }
    }
}

/// EVA's search over a dataset.
pub struct Search<'a> {
    /// What is looked for.
    pub settings: Settings,
    /// Where.
    pub sites: &'a [Site],
    /// Kinds of tokens that count; all where empty.
    pub tokens: &'a [Token],
    /// Windows a batch.
    pub batch_size: usize,
    /// Batches after which it ends, settled or not.
    pub max_batches: usize,
    /// Decides the windows.
    pub seed: u64,
}

/// How a search ended.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Batches that it took.
    pub batches: usize,
    /// How far it came.
    pub progress: Progress,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { settled, done } = self.progress;
        let how = if done { "settled" } else { "ended, not yet settled," };
        write!(f, "{how} after {} batches, {:.0}% of the sites by themselves", self.batches, 100.0 * settled)
    }
}

impl Search<'_> {
    /// Shows EVA batches of windows until it has settled; `each` hears of every batch.
    pub fn run(
        &self,
        policy: &DecisionTransformer,
        conditioning: &Conditioning,
        data: &Replay,
        mut each: impl FnMut(usize, Progress) -> anyhow::Result<()>,
    ) -> anyhow::Result<(Found<Site>, Outcome)> {
        // Every window once in a random order, before any comes again in another.
        let whole = data.steps().div_ceil(self.batch_size);
        let mut order: Vec<usize> = (0..data.steps()).collect();
        let inputs = eva::inputs_of(policy, self.sites);
        let mut eva = Eva::new(inputs, self.settings, Some(whole), policy.device());
        let mut progress = Progress { settled: 0.0, done: false };
        while !progress.done && eva.batches() < self.max_batches {
            let (round, batch) = (eva.batches() / whole, eva.batches() % whole);
            if batch == 0 {
                order.shuffle(&mut rng::generator(self.seed, Purpose::EvaWindows, round));
            }
            let starts = order.chunks(self.batch_size).nth(batch).expect("a round has so many batches");
            let inputs = conditioning.inputs(&data.windows(starts, conditioning.context_length).view());
            progress = eva::observe_policy(&mut eva, policy, &inputs, self.tokens).or_input()?;
            each(eva.batches(), progress)?;
        }
        let batches = eva.batches();
        Ok((eva.finish().or_input()?, Outcome { batches, progress }))
    }
}

fn scaling(lora: &LoraConfig) -> Scaling {
    Scaling { alpha: lora.alpha, rank_stabilised: lora.rslora }
}

/// The adapters with DoRA's magnitude, where the config wants it.
fn dora(lora: &LoraConfig, policy: &DecisionTransformer, mut adapters: AdapterSet) -> AdapterSet {
    if lora.dora {
        policy.start_dora(&mut adapters);
    }
    adapters
}

/// Adapters as a checkpoint has them; nothing in full fine-tuning.
pub fn restore_adapters(
    plan: &RunPlan,
    policy: &DecisionTransformer,
    checkpoint: &Path,
) -> anyhow::Result<Option<(AdapterFolder, AdapterSet)>> {
    match &plan.adapter {
        AdapterConfig::FullFineTuning {} => Ok(None),
        AdapterConfig::Lora(_) | AdapterConfig::Eva(_) => {
            agent::read_adapter(&checkpoint.join("adapter"), policy).map(Some)
        }
    }
}
