//! Where a run starts: a new policy's config, and adapters as random LoRA, EVA or a checkpoint has them.

use std::path::Path;
use std::time::Instant;

use eva_rl_agents::adapter::{self, AdapterFolder, AdapterSet, Origin};
use eva_rl_agents::eva::{Eva, Settings};
use eva_rl_agents::model::{ActionKind, Conditioning, DecisionTransformer, PolicyConfig as HfConfig};
use eva_rl_envs::ActionSpace;

use crate::agent;
use crate::config::{AdapterConfig, EvaConfig, NewPolicyConfig, PolicyConfig, RunPlan};
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
            (low.len(), ActionKind::Continuous, Some(low.clone()), Some(high.clone()))
        }
    };
    HfConfig {
        state_dim: dataset.observation_width as i64,
        act_dim: act_dim as i64,
        hidden_size: new.hidden_size,
        max_ep_len: new.max_episode_length,
        action_tanh: action_kind == ActionKind::Continuous,
        n_positions: 3 * new.context_length,
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
    }
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
        PolicyConfig::Pretrained { path } => path.display().to_string(),
        PolicyConfig::New(_) => String::new(),
    };
    match &plan.adapter {
        AdapterConfig::FullFineTuning {} => Ok(None),
        AdapterConfig::Lora(lora) => {
            rng::seed_torch(plan.seed, Purpose::Weights, 1);
            let mut adapters = AdapterSet { dropout: lora.dropout, ..AdapterSet::default() };
            for site in policy.sites() {
                let (input, output) = policy.site_shape(site).expect("a site of this policy");
                let adapter = adapter::lora(input, output, lora.rank, lora.alpha, policy.device());
                adapters.sites.insert(site, adapter);
            }
            let facts =
                AdapterFolder { base, rank: lora.rank.get(), alpha: lora.alpha, origin: Origin::Lora };
            Ok(Some((facts, adapters)))
        }
        AdapterConfig::Eva(eva) => {
            let EvaConfig { lora, rho, tau, max_batches } = eva;
            let begun = Instant::now();
            let settings = Settings { rank: lora.rank, alpha: lora.alpha, rho: *rho, tau: *tau };
            let mut search = Eva::new(policy, &policy.sites(), settings);
            let mut settled = 0.0;
            while settled < 1.0 && search.batches() < *max_batches {
                let mut windows_rng = rng::generator(plan.seed, Purpose::EvaWindows, search.batches());
                let windows =
                    offline.sample(plan.optimiser.batch_size, conditioning.context_length, &mut windows_rng);
                settled = search.observe(policy, &conditioning.inputs(&windows.view())).or_input()?;
                recorder.scalar(metrics::EVA_SETTLED, search.batches(), settled)?;
            }
            let batches = search.batches();
            let (adapters, reports) = search.finish(policy, lora.dropout);
            recorder.sites(&reports)?;
            tell(&format!(
                "EVA: {} sites, {:.0}% settled after {batches} batches, {:.1} s",
                reports.len(),
                100.0 * settled,
                begun.elapsed().as_secs_f64()
            ));
            let origin = Origin::Eva { rho: *rho, tau: *tau };
            Ok(Some((AdapterFolder { base, rank: lora.rank.get(), alpha: lora.alpha, origin }, adapters)))
        }
    }
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
